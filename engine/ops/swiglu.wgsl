// swiglu  y = gate · sigmoid(gate) · up
// Work    one invocation an element.
// Memory  gate and up read once, y written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  let g = gate[params.gateBase + i];
  y[params.yBase + i] = g * sigmoid(g) * up[params.upBase + i];
}
