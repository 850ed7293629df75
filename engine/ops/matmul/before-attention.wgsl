// beforeAttention  h = rmsNorm(x);  q, k, v = h · W_iᵀ + b_i;  q[t] = rope(q[t]),  keys[slots[t]] = rope(k[t]),  values[slots[t]] = v[t]
//                  x [T, C], keys, values [S, K, D]; scratch holds q [T, H, D], then [T, C + (H + 2K) · D]; vectors the norm's weight
//                  and the biases, angles cos and sin [T, D/2]: an adapter may allow no more than eight bindings
// Work             a workgroup does all of it for ROWS rows: rows do not depend on each other. It is one subgroup of 8; see the
//                  tile in `uses`. A row of the second part of scratch holds h and the products.
// Memory           weights are read once per ROWS rows; all else stays in the cache.
// Precision        f32: the bits of rmsNorm in fours, three products and ropeIntoCache.
// Chosen           on software drivers with subgroups of 8, for layers small enough for a core's cache (layer-parts.ts).
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> right: array<vec4f>;
@group(0) @binding(2) var<storage, read> vectors: array<vec4f>;
@group(0) @binding(3) var<storage, read> angles: array<vec4f>;
@group(0) @binding(4) var<storage, read> slots: array<u32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> keys: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> values: array<vec4f>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

/** Where the second part of scratch begins. */
fn rowsBase() -> u32 { return params.scratchBase + params.rows * params.heads * 2u * params.half; }

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = tile.x * ROWS;
  let end = min(first + ROWS, params.rows);
  let half = params.half / 4u;
  let heads = params.heads + 2u * params.keyHeads;
  let columns = heads * 2u * params.half;
  let scratchWidth = params.width + columns;
  for (var row = first + lane; row < end; row += LANES) { normalise(row, scratchWidth); }
  storageBarrier();
  var p: Product;
  p.rows = params.rows;
  p.columns = columns;
  p.count = params.width;
  p.leftBase = rowsBase();
  p.leftRow = scratchWidth;
  p.leftStep = 1u;
  p.rightBase = params.rightBase;
  p.rightPanel = params.width * 8u;
  p.rightStep = 8u;
  p.resultBase = rowsBase() + params.width;
  p.resultRow = scratchWidth;
  p.resultColumn = 1u;
  p.startsFromColumns = true;
  for (var column = 0u; column * 32u < columns; column++) { multiplyTile(p, vec2u(tile.x, column), lane); }
  storageBarrier();
  for (var pair = lane; pair < (end - first) * heads * half; pair += LANES) {
    let i = pair % half;
    let head = pair / half % heads;
    let row = first + pair / half / heads;
    let at = (rowsBase() + row * scratchWidth + params.width) / 4u + head * 2u * half + i;
    let a = scratch[at];
    let b = scratch[at + half];
    let c = angles[(params.anglesBase + params.cosStart) / 4u + row * half + i];
    let s = angles[(params.anglesBase + params.sinStart) / 4u + row * half + i];
    if (head < params.heads) {
      let low = params.scratchBase / 4u + (row * params.heads + head) * 2u * half + i;
      scratch[low] = a * c - b * s;
      scratch[low + half] = b * c + a * s;
      continue;
    }
    let slot = slots[params.slotsBase + row];
    if (slot >= params.cacheSlots) { continue; }
    let isKey = head < params.heads + params.keyHeads;
    let keyHead = select(head - params.heads - params.keyHeads, head - params.heads, isKey);
    let place = (slot * params.keyHeads + keyHead) * 2u * half + i;
    if (isKey) {
      keys[params.keysBase / 4u + place] = a * c - b * s;
      keys[params.keysBase / 4u + place + half] = b * c + a * s;
    } else {
      values[params.valuesBase / 4u + place] = a;
      values[params.valuesBase / 4u + place + half] = b;
    }
  }
}

/** h of a row, in the order of rmsNorm. */
fn normalise(row: u32, scratchWidth: u32) {
  let width = params.width / 4u;
  let start = params.xBase / 4u + row * width;
  let to = (rowsBase() + row * scratchWidth) / 4u;
  var squares = 0.0;
  for (var c = 0u; c < width; c++) {
    let value = x[start + c];
    squares = addProducts(value, value, squares);
  }
  let r = 1.0 / sqrt(squares / f32(params.width) + params.eps);
  for (var c = 0u; c < width; c++) { scratch[to + c] = x[start + c] * r * vectors[(params.vectorsBase + params.norm) / 4u + c]; }
}

fn leftFour(at: u32) -> vec4f { return scratch[at / 4u]; }
fn rightFour(at: u32) -> vec4f { return right[at / 4u]; }
/** No sum continues here. */
fn storedFour(_p: Product, _row: u32, _column: u32) -> vec4f { return vec4f(); }
fn storeFour(p: Product, row: u32, column: u32, four: vec4f) {
  if (row < p.rows && column < p.columns) { scratch[resultPlace(p, row, column) / 4u] = four; }
}

/** Biases may lie apart: each begins at its own place. */
fn columnStart(column: u32) -> f32 {
  let ofQ = params.heads * 2u * params.half;
  let ofK = params.keyHeads * 2u * params.half;
  let own = min(column, ofQ + 2u * ofK - 1u);
  var place = params.firstBias + own;
  if (own >= ofQ + ofK) {
    place = params.thirdBias + own - ofQ - ofK;
  } else if (own >= ofQ) {
    place = params.secondBias + own - ofQ;
  }
  let at = params.vectorsBase + place;
  return vectors[at / 4u][at % 4u];
}
