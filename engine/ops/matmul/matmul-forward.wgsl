// multiplyForward  result[t, o] = residual[t, o] + (bias[o] + Σ_c left[t, c] · right[o / 8, c, o % 8])
//                  x [T, C], panels [⌈O/8⌉, C, 8], residual and y [T, O]
// Work             one workgroup per tile of rows × outputs; see the tile in `uses`. Whether all rows have one weight or those of
//                  each slot their own: see `tileRows` there.
// Constants        LANES: invocations of a workgroup, the tile's.
// Precision        f32, c ascending, one accumulator that starts from the bias. The residual is added to the finished sum.
// Chosen           always; the adapter decides the tile (tiles.ts).
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<Result>;
@group(0) @binding(4) var<storage, read_write> result: array<Result>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

/** Elements from the first bias to that of these rows. */
var<private> ownBias: u32;

/** What the entry point does (entry.wgsl, matrix-entry.wgsl). */
fn multiply(tile: vec3u, lane: u32) {
  let first = params.panelsStart * 8u;
  let own = tileRows(tile.x);
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
  multiplyTile(p, vec2u(own.tile, tile.y), lane);
}

fn columnStart(column: u32) -> f32 {
  return bias[params.biasBase + ownBias + min(params.panelsStart * 8u + column, params.columns - 1u)];
}

fn storeFinished(place: u32, _row: u32, _column: u32, sum: Result) {
  var y = sum;
  if (params.hasResidual != 0u) { y = residual[(params.residualBase + place - params.resultBase) / RESULT_WIDTH] + sum; }
  result[place / RESULT_WIDTH] = y;
}
