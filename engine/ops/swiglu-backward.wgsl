// swigluBackward  s = sigmoid(gate);  which 0: d = dy · up · s · (1 + gate · (1 − s));  which 1: d = dy · gate · s
// Work            one invocation an element.
// Memory          dy, gate and up read once, d written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> d: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  let g = gate[params.gateBase + i];
  let s = sigmoid(g);
  let slope = select(g * s, up[params.upBase + i] * s * (1.0 + g * (1.0 - s)), params.which == 0u);
  let before = select(0.0, d[params.dBase + i], params.addToD != 0u);
  d[params.dBase + i] = before + dy[params.dyBase + i] * slope;
}
