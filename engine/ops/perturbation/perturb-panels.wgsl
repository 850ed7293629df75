// perturbPanels  slot[r / 8, c, r % 8] = (weight[r, c] + a·g_δ) + b·g_η, and 0 past the last row
// Work           a grid of panels; one invocation per four elements. If the row length is a multiple of four, neighbours take the
//                same columns of a panel's eight rows, so that they write side by side; if not, they follow each other along a row.
// Memory         weight read once, slot written once. Arithmetic-bound: two Philox calls and four Box–Muller pairs per four.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> slot: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let panel = max(params.panelsStart, params.rowsStart / 8u) + group.y + group.z * PANELS;
  let i = group.x * 64u + lane;
  if (i >= 2u * params.rowSize || panel >= params.panelsStart + params.panels) { return; }
  var row = i % 8u;
  var column = i / 8u * 4u;
  if (params.rowSize % 4u != 0u) {
    row = 4u * i / params.rowSize;
    column = 4u * i - row * params.rowSize;
  }
  let quad = quadAfter(params.firstRow / 8u + panel, 2u * params.rowSize, (row * params.rowSize + column) / 4u);
  let name = vec2u(params.name0, params.name1);
  var delta = vec4f(0.0);
  var eta = vec4f(0.0);
  if (params.a != 0.0) { delta = directionNormals(quad, vec2u(params.deltaKey0, params.deltaKey1), name); }
  if (params.b != 0.0) { eta = directionNormals(quad, vec2u(params.etaKey0, params.etaKey1), name); }

  let panelStart = params.slotBase + (panel - params.panelsStart) * params.rowSize * 8u;
  let own = panel * 8u + row - params.rowsStart; // wraps around before the cell's first row
  if (params.rowSize % 4u == 0u && own < params.rows) {
    let source = params.weightBase + own * params.rowSize + column;
    let place = panelStart + column * 8u + row;
    /* @unroll */ for (var k = 0u; k < 4u; k++) { slot[place + 8u * k] = perturbed(weight[source + k], delta[k], eta[k], params.a, params.b); }
    return;
  }
  let isLastCell = params.rowsStart + params.rows == params.rowsTotal;
  for (var k = 0u; k < 4u; k++) {
    let own = panel * 8u + row - params.rowsStart;
    let place = panelStart + column * 8u + row;
    if (own < params.rows) {
      slot[place] = perturbed(weight[params.weightBase + own * params.rowSize + column], delta[k], eta[k], params.a, params.b);
    } else if (isLastCell && panel * 8u + row >= params.rowsTotal) {
      slot[place] = 0.0;
    }
    let isEnd = column + 1u == params.rowSize;
    row += select(0u, 1u, isEnd);
    column = select(column + 1u, 0u, isEnd);
  }
}
