// scaleRows  x[r, c] = x[r, c] · factors[r]
// Work       one invocation per four elements.
// Memory     x read and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = 4u * (flatWorkgroup(group, groups) * 64u + lane);
  let end = min(params.rows * params.rowSize, first + 4u);
  for (var i = first; i < end; i++) {
    x[params.xBase + i] *= factors[params.factorsBase + i / params.rowSize];
  }
}
