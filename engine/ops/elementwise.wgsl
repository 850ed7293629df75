// add     y[i] = a[i] + b[i]
// Work    one invocation an element.
// Memory  a and b read once, y written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  y[params.yBase + i] = a[params.aBase + i] + b[params.bBase + i];
}
