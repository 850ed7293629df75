// multiplyInput…Matrix  result[t, c] (+)= Σ_o left[t, o] · right[o, c]                          dy [T, O], weight [O, C], dx [T, C]
// Work           one workgroup per tile of rows × inputs; see matrix-tile.wgsl.
// Precision      f32, o ascending, one accumulator, which starts from the stored value if it adds.
// Chosen          for f16 operands, if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
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
  multiplyOnMatrixUnits(p, tile.xy, subgroup, lane);
}

fn columnStart(_column: u32) -> f32 { return 0.0; }

fn storeFinished(place: u32, _row: u32, _column: u32, sum: f32) { result[place] = sum; }
