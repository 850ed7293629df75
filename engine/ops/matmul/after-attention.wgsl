// afterAttention  a = x + mixed · Oᵀ,  h = rmsNorm(a),  y = a + (silu(h · Gᵀ) ⊙ (h · Uᵀ)) · Dᵀ      mixed [T, A], x, y [T, C], scratch [T, W]
// Work            a workgroup does all of it for ROWS rows: rows do not depend on each other. It is one subgroup of 8; see the
//                 tile in `uses`. A row of scratch holds h, and after it the left operand of the first and last product.
// Memory          weights are read once per ROWS rows; all else stays in the cache.
// Precision       f32: the bits of a product with a residual, rmsNorm in fours, the gated product and another product.
// Chosen          on software drivers with subgroups of 8, for layers small enough for a core's cache (layer-parts.ts).
@group(0) @binding(0) var<storage, read> mixed: array<vec4f>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> output: array<vec4f>;
@group(0) @binding(3) var<storage, read> gated: array<vec4f>;
@group(0) @binding(4) var<storage, read> down: array<vec4f>;
@group(0) @binding(5) var<storage, read> weight: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> scratch: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4f>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

/** The product at hand: output, gate, up, down. */
var<private> product: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = tile.x * ROWS;
  let end = min(first + ROWS, params.rows);
  let scratchWidth = params.width + max(params.mixedWidth, params.inner);
  let mixedFours = params.mixedWidth / 4u;
  for (var i = lane; i < (end - first) * mixedFours; i += LANES) {
    let row = first + i / mixedFours;
    let column = i % mixedFours;
    scratch[(params.scratchBase + row * scratchWidth + params.width) / 4u + column] =
      mixed[(params.mixedBase + row * params.mixedWidth) / 4u + column];
  }
  storageBarrier();
  var p: Product;
  p.rows = params.rows;
  p.leftRow = scratchWidth;
  p.leftStep = 1u;
  p.rightStep = 8u;
  p.resultColumn = 1u;
  // Always four. But a loop whose end the compiler knows is unrolled, which takes it four times the time.
  for (var i = 0u; i < params.products; i++) {
    product = i;
    let isInner = i == 1u || i == 2u;
    p.columns = select(params.width, params.inner, isInner);
    p.count = select(select(params.inner, params.mixedWidth, i == 0u), params.width, isInner);
    p.leftBase = params.scratchBase + select(params.width, 0u, isInner);
    p.rightBase = select(
      select(params.downBase, params.outputBase, i == 0u),
      params.gatedBase + (i - 1u) * params.inner * params.width, // the panels of U follow those of G
      isInner,
    );
    p.rightPanel = 8u * p.count;
    p.resultBase = select(params.yBase, params.scratchBase + params.width, isInner);
    p.resultRow = select(params.width, scratchWidth, isInner);
    for (var column = 0u; column * 32u < p.columns; column++) { multiplyTile(p, vec2u(tile.x, column), lane); }
    storageBarrier();
    if (i == 0u) {
      for (var row = first + lane; row < end; row += LANES) { normalise(row, scratchWidth); }
      storageBarrier();
    }
  }
}

/** h of a row, in the order of rmsNorm. */
fn normalise(row: u32, scratchWidth: u32) {
  let width = params.width / 4u;
  let start = params.yBase / 4u + row * width;
  let to = (params.scratchBase + row * scratchWidth) / 4u;
  var squares = 0.0;
  for (var c = 0u; c < width; c++) {
    let value = y[start + c];
    squares = addProducts(value, value, squares);
  }
  let r = 1.0 / sqrt(squares / f32(params.width) + params.eps);
  for (var c = 0u; c < width; c++) { scratch[to + c] = y[start + c] * r * weight[params.weightBase / 4u + c]; }
}

fn leftFour(at: u32) -> vec4f { return scratch[at / 4u]; }
fn rightFour(at: u32) -> vec4f {
  if (product == 0u) { return output[at / 4u]; }
  if (product == 3u) { return down[at / 4u]; }
  return gated[at / 4u];
}
fn columnStart(_column: u32) -> f32 { return 0.0; }
/** No sum continues here. */
fn storedFour(_p: Product, _row: u32, _column: u32) -> vec4f { return vec4f(); }

fn storeFour(p: Product, row: u32, column: u32, four: vec4f) {
  if (row >= p.rows || column >= p.columns) { return; }
  let place = resultPlace(p, row, column) / 4u;
  if (product == 0u) {
    y[place] = x[(params.xBase + row * params.width + column) / 4u] + four;
  } else if (product == 1u) {
    scratch[place] = four;
  } else if (product == 2u) {
    let g = scratch[place]; // its own: the lane that has these columns of U had them of G
    scratch[place] = g * sigmoid(g) * four;
  } else {
    y[place] += four;
  }
}
