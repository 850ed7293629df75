// keepHalves  x[i] rounded to f16, in place; NaN if f16 does not hold the number
// Work        one invocation per element.
// Memory      x read and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  let place = params.xBase + i;
  x[place] = unpack2x16float(keptHalvesOf(vec2f(x[place], 0.0))).x;
}
