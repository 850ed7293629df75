// multiplyWeight…Matrix  result[o, chunk, c] (+)= Σ_t left[t, c] · right[t, o],  t in the chunk     x [T, C], dy [T, O], dW [O, C]
// Work            one workgroup per tile of inputs × outputs and chunk of rows; see matrix-tile.wgsl. The tile's rows are the
//                 inputs c, its columns the outputs o. Chunks are summed by sumChunks.
// Precision       f32, t ascending in a chunk, one accumulator; continues if an earlier cell began the chunk.
// Chosen          for f16 operands, if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = false;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
  let chunk = params.rowsStart / params.chunkRows + tile.z;
  let chunkStart = chunk * params.chunkRows;
  let first = max(chunkStart, params.rowsStart) - params.rowsStart;
  let end = min(chunkStart + params.chunkRows - params.rowsStart, params.rows);
  var p: Product;
  p.rows = params.width;
  p.columns = params.outputs;
  p.count = end - first;
  p.leftBase = params.leftBase + first * params.width;
  p.leftRow = 1u;
  p.leftStep = params.width;
  p.rightBase = params.rightBase + first * params.rightWidth + params.outputsStart;
  p.rightPanel = 8u;
  p.rightStep = params.rightWidth;
  p.resultBase = params.resultBase + chunk * params.width;
  p.resultRow = 1u;
  p.resultColumn = params.chunks * params.width;
  p.continues = params.addToResult != 0u && (params.chunks == 1u || chunkStart < params.rowsStart);
  multiplyOnMatrixUnits(p, tile.xy, subgroup, lane);
}

fn columnStart(_column: u32) -> f32 { return 0.0; }

fn storeFinished(place: u32, _row: u32, _column: u32, sum: f32) { result[place] = sum; }
