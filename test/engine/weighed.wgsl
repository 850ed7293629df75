// weighed  y[i] = |x[i]| · w[i] · factor where isAbsolute, else x[i] · w[i] · factor;  z[i] = x[i]² · w[i]; not at `skipped`
// Work     one invocation an element. For tests of checkOp.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.rows * params.rowSize || i == params.skipped) { return; }
  let a = x[params.xBase + i];
  let b = w[params.wBase + i];
  y[params.yBase + i] = select(a, abs(a), params.isAbsolute != 0u) * b * params.factor;
  z[params.zBase + i] = a * a * b;
}
