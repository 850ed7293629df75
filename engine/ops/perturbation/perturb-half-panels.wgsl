// perturbHalfPanels  slot[r / 8, c, r % 8] = ((weight[r, c] + a·g_δ) + b·g_η) in f16, and 0 past the last row; NaN if f16 does not
//                    hold the number
// Work               a grid of panels; one invocation per pair of rows and four columns, or per pair of rows and one column if the row
//                    length is not a multiple of four. A word holds a pair; if a cell has one row of it, the other half is kept.
// Memory             weight read once, slot written once, 6 bytes per element. Arithmetic-bound, as perturb-panels.wgsl; if the row
//                    length is not a multiple of four every Gaussian is drawn four times.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> slot: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let panel = max(params.panelsStart, params.rowsStart / 8u) + group.y + group.z * PANELS;
  let i = group.x * 64u + lane;
  let pair = i % 4u;
  let inFours = params.rowSize % 4u == 0u;
  let column = select(i / 4u, i / 4u * 4u, inFours);
  if (column >= params.rowSize || panel >= params.panelsStart + params.panels) { return; }
  let rowOfPanel = 2u * pair;
  let row = panel * 8u + rowOfPanel;
  let isLastCell = params.rowsStart + params.rows == params.rowsTotal;
  let place = (params.slotBase + (panel - params.panelsStart) * params.rowSize * 8u) / 2u + column * 4u + pair;
  // Wraps around before the cell's first row.
  let isOwn = vec2<bool>(row - params.rowsStart < params.rows, row + 1u - params.rowsStart < params.rows);
  let isPast = vec2<bool>(isLastCell && row >= params.rowsTotal, isLastCell && row + 1u >= params.rowsTotal);
  let mask = select(0u, 0xffffu, isOwn.x || isPast.x) | select(0u, 0xffff0000u, isOwn.y || isPast.y);
  if (mask == 0u) { return; }
  if (inFours) {
    let first = movedFour(panel, rowOfPanel, column, isOwn.x);
    let second = movedFour(panel, rowOfPanel + 1u, column, isOwn.y);
    /* @unroll */ for (var k = 0u; k < 4u; k++) { store(place + 4u * k, vec2f(first[k], second[k]), mask); }
  } else {
    let one = vec2f(movedOne(panel, rowOfPanel, column, isOwn.x), movedOne(panel, rowOfPanel + 1u, column, isOwn.y));
    store(place, one, mask);
  }
}

fn store(at: u32, pair: vec2f, mask: u32) {
  slot[at] = (keptHalvesOf(pair) & mask) | (slot[at] & ~mask);
}

/** Four columns of a row, perturbed; 0 if the cell does not have the row. */
fn movedFour(panel: u32, row: u32, column: u32, isOwn: bool) -> vec4f {
  if (!isOwn) { return vec4f(); }
  let quad = quadAfter(params.firstRow / 8u + panel, 2u * params.rowSize, (row * params.rowSize + column) / 4u);
  let noise = noiseOf(quad);
  let source = params.weightBase + (panel * 8u + row - params.rowsStart) * params.rowSize + column;
  return vec4f(
    perturbed(weight[source], noise.delta.x, noise.eta.x, params.a, params.b),
    perturbed(weight[source + 1u], noise.delta.y, noise.eta.y, params.a, params.b),
    perturbed(weight[source + 2u], noise.delta.z, noise.eta.z, params.a, params.b),
    perturbed(weight[source + 3u], noise.delta.w, noise.eta.w, params.a, params.b),
  );
}

fn movedOne(panel: u32, row: u32, column: u32, isOwn: bool) -> f32 {
  if (!isOwn) { return 0.0; }
  let element = row * params.rowSize + column;
  let noise = noiseOf(quadAfter(params.firstRow / 8u + panel, 2u * params.rowSize, element / 4u));
  let source = params.weightBase + (panel * 8u + row - params.rowsStart) * params.rowSize + column;
  return perturbed(weight[source], noise.delta[element % 4u], noise.eta[element % 4u], params.a, params.b);
}

struct Noise {
  delta: vec4f,
  eta: vec4f,
}

fn noiseOf(quad: vec2u) -> Noise {
  let name = vec2u(params.name0, params.name1);
  var noise = Noise(vec4f(), vec4f());
  if (params.a != 0.0) { noise.delta = directionNormals(quad, vec2u(params.deltaKey0, params.deltaKey1), name); }
  if (params.b != 0.0) { noise.eta = directionNormals(quad, vec2u(params.etaKey0, params.etaKey1), name); }
  return noise;
}
