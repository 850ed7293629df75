// multiplyWeight  result[o, chunk, c] (+)= Σ_t left[t, c] · right[t, o],  t in the chunk     x [T, C], dy [T, O], dW [O, C]
// Work            one workgroup per tile of inputs × outputs and chunk of rows; see the tile in `uses`. The tile's rows are the
//                 inputs c, its columns the outputs o. Chunks are summed by sumChunks.
// Constants       LANES: invocations of a workgroup, the tile's.
// Precision       f32, t ascending in a chunk, one accumulator; continues if an earlier cell began the chunk.
// Chosen          always; the adapter decides the tile (tiles.ts).
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<Result>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = false;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  let chunk = chunkOf(tile.z);
  if (!chunk.isHere) { return; }
  var p: Product;
  p.rows = params.width;
  p.columns = params.outputs;
  p.count = chunk.end - chunk.first;
  p.leftBase = params.leftBase + chunk.first * params.width;
  p.leftRow = 1u;
  p.leftStep = params.width;
  p.rightBase = params.rightBase + chunk.first * params.rightWidth + params.outputsStart;
  p.rightPanel = 8u;
  p.rightStep = params.rightWidth;
  p.resultBase = params.resultBase + chunk.index * params.width;
  p.resultRow = 1u;
  p.resultColumn = params.chunks * params.width;
  p.continues = params.addToResult != 0u && chunk.isBegun;
  multiplyTile(p, tile.xy, lane);
}

fn columnStart(_column: u32) -> f32 { return 0.0; }

fn storeFinished(place: u32, _row: u32, _column: u32, sum: Result) { result[place / RESULT_WIDTH] = sum; }
