// multiplyInput  result[t, c] (+)= Σ_o left[t, o] · right[o, c]                          dy [T, O], weight [O, C], dx [T, C]
// Work           one workgroup per tile of rows × inputs; see the tile in `uses`.
// Constants      LANES: invocations of a workgroup, the tile's.
// Precision      f32, o ascending, one accumulator, which starts from the stored value if it adds.
// Chosen         always; the adapter decides the tile (tiles.ts).
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read_write> result: array<Result>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  var p: Product;
  p.rows = params.rows;
  p.columns = params.width;
  p.count = params.outputs;
  p.leftBase = params.leftBase + params.outputsStart;
  p.leftRow = params.leftWidth;
  p.leftStep = 1u;
  p.rightBase = params.rightBase;
  p.rightPanel = 8u;
  p.rightStep = params.width;
  p.resultBase = params.resultBase;
  p.resultRow = params.width;
  p.resultColumn = 1u;
  p.continues = params.addToResult != 0u;
  multiplyTile(p, tile.xy, lane);
}

fn columnStart(_column: u32) -> f32 { return 0.0; }

fn storeFinished(place: u32, _row: u32, _column: u32, sum: Result) { result[place / RESULT_WIDTH] = sum; }
