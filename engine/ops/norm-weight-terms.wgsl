// rmsNormWeightTerms  terms[r, c] = dy[r, c] · x[r, c] · inverseRms[r]
// Work                one invocation an element.
// Memory              dy and x read once, terms written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(3) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.width) { return; }
  let r = inverseRms[params.inverseRmsBase + i / params.width];
  terms[params.termsBase + i] = dy[params.dyBase + i] * x[params.xBase + i] * r;
}
