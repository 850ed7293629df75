// fill        y[i] = value
// Work        one invocation an element.
// Memory      y written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  y[params.yBase + i] = params.value;
}
