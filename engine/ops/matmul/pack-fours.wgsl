// packPanels  panels[o / 8, c, o % 8] = weight[o, c], and 0 past the last output
// Work        one invocation per four neighbouring inputs of a panel's eight outputs: it transposes 8 × 4 numbers in registers, so
//             that it reads and writes in fours.
// Memory      weight read once, panels written once. Bandwidth-bound.
// Stored      panels are f32, or f16 in words, rounded to nearest: see the panels file in `uses`.
// Chosen      if the row length is a multiple of four, and no panel is cut.
// Measured    4864×896 on lavapipe: 8 ms of one core (pack.wgsl: 54); SwiftShader 37 ms (156). node bench/run.ts pack.bench.
@group(0) @binding(0) var<storage, read> weight: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> panels: array<Stored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = flatWorkgroup(group, groups) * 64u + lane;
  let width = params.width / 4u;
  if (item >= params.panels * width) { return; }
  let panel = item / width;
  let column = item % width;
  let row = (params.panelsStart + panel) * 8u - params.outputsStart; // wraps around before the cell's first row
  if (row >= params.outputs) { return; }
  let source = params.weightBase / 4u + row * width + column;
  let rest = params.outputs - row; // fewer than 8 in the last panel only
  let low = transpose(mat4x4f(rowAt(source, 0u, width, rest), rowAt(source, 1u, width, rest), rowAt(source, 2u, width, rest), rowAt(source, 3u, width, rest)));
  let high = transpose(mat4x4f(rowAt(source, 4u, width, rest), rowAt(source, 5u, width, rest), rowAt(source, 6u, width, rest), rowAt(source, 7u, width, rest)));
  let place = params.panelsBase / 4u + item * 8u;
  /* @unroll */ for (var c = 0u; c < 4u; c++) {
    storePanel(place + 2u * c, low[c]);
    storePanel(place + 2u * c + 1u, high[c]);
  }
}

fn rowAt(source: u32, j: u32, width: u32, rest: u32) -> vec4f {
  return select(vec4f(), weight[source + min(j, rest - 1u) * width], j < rest);
}
