// multiplyGatedPairs  result = gate · sigmoid(gate) · up,  gate[t, o] = Σ_c left[t, c] · G[o, c],  up[t, o] = Σ_c left[t, c] · U[o, c]
//                     x [T, C], panels of G and then of U [2·F/8, C, 8], result [T, F], F a multiple of 8
// Work           one workgroup per tile of rows × 16 outputs, for which it has both products: neither is stored.
// Constants      LANES: invocations of a workgroup, the tile's. Vector: vec4f, for sigmoid.
// Precision      f32, c ascending, one accumulator per sum: the bits of two products and swiglu.
// Chosen         on lavapipe where the vector tile is, if nobody needs the products for a gradient.
// Measured       64 inputs, 192 outputs, processor time beside multiplyGated: 96 rows 0.27 and 0.30 ms, 512 rows 1.3 and 1.55, 4,096
//                rows 10.4 and 15.0. 2 busy cores, Mesa 25.0.7, AMD EPYC (Zen 4).
@group(0) @binding(0) var<storage, read> left: array<vec4f>;
@group(0) @binding(1) var<storage, read> right: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4f>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = tileRows(tile.x);
  var p: Product;
  p.rows = own.count;
  p.columns = params.columns;
  p.count = params.width;
  p.leftBase = params.leftBase + own.first * params.width;
  p.leftRow = params.width;
  p.leftStep = 1u;
  p.rightBase = params.rightBase + own.right;
  p.rightPanel = params.width * 8u;
  p.rightStep = 8u;
  p.resultBase = params.resultBase + own.first * params.columns;
  p.resultRow = params.columns;
  p.resultColumn = 1u;
  multiplyTile(p, vec2u(own.tile, tile.y), lane);
}

fn columnStart(_column: u32) -> f32 { return 0.0; }
/** No sum continues here. */
fn storedFour(_p: Product, _row: u32, _column: u32) -> vec4f { return vec4f(); }

fn storePair(p: Product, row: u32, column: u32, g: vec4f, u: vec4f) {
  if (row < p.rows && column < p.columns) { result[resultPlace(p, row, column) / 4u] = g * sigmoid(g) * u; }
}
