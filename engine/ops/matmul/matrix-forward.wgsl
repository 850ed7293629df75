// multiplyForward…Matrix  result[t, o] = bias[o] + Σ_c left[t, c] · right[o / 8, c, o % 8] + residual[t, o], on matrix units
//                         x [T, C], panels [⌈O/8⌉, C, 8], residual and y [T, O]
// Work             one workgroup per tile of rows × outputs; see matrix-tile.wgsl, and `tileRows` as in matmul-forward.wgsl.
// Precision        f32; sums start from the bias; the residual is added to the finished sum.
// Chosen           for f16 operands, if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

/** The first row of the tile's rows, and elements from the first bias to theirs. */
var<private> ownFirst: u32;
var<private> ownBias: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
  let first = params.panelsStart * 8u;
  let own = tileRows(tile.x);
  ownFirst = own.first;
  ownBias = own.bias;
  var p: Product;
  p.rows = own.count;
  p.columns = min(params.panels * 8u, params.columns - first);
  p.count = params.width;
  p.leftBase = params.leftBase + own.first * params.width;
  p.leftRow = params.width;
  p.leftStep = 1u;
  p.rightBase = params.rightBase + own.right;
  p.rightPanel = params.width * 8u;
  p.rightStep = 8u;
  p.resultBase = params.resultBase + own.first * params.columns + first;
  p.resultRow = params.columns;
  p.resultColumn = 1u;
  p.startsFromColumns = params.hasBias != 0u;
  multiplyOnMatrixUnits(p, vec2u(own.tile, tile.y), subgroup, lane);
}

fn columnStart(column: u32) -> f32 {
  return bias[params.biasBase + ownBias + min(params.panelsStart * 8u + column, params.columns - 1u)];
}

/** What is written for a finished sum. */
fn finished(row: u32, column: u32, sum: f32) -> f32 {
  if (params.hasResidual == 0u) { return sum; }
  return sum + residual[params.residualBase + (ownFirst + row) * params.columns + params.panelsStart * 8u + column];
}
