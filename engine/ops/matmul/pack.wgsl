// packPanels  panels[o / 8, c, o % 8] = weight[o, c], and 0 past the last output
// Work        one invocation per element of the cell's panels; it writes only if the cell also has that row of the weight.
// Memory      weight read once, 8 rows at a time; panels written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> panels: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.panels * params.width * 8u) { return; }
  let o = (params.panelsStart + i / (params.width * 8u)) * 8u + i % 8u;
  let c = i / 8u % params.width;
  if (o >= params.outputsStart && o < params.outputsStart + params.outputs) {
    panels[params.panelsBase + i] = weight[params.weightBase + (o - params.outputsStart) * params.width + c];
  } else if (o >= params.outputsTotal && params.outputsStart + params.outputs == params.outputsTotal) {
    panels[params.panelsBase + i] = 0.0;
  }
}
