// rmsNormWeightTerms  terms[r, c] = dy[r, c] · x[r, c] · inverseRms[r]
// Work                an invocation processes ROUNDS vectors of WIDTH elements (work-split.ts).
// Constants           Vector: vec4f | f32, of WIDTH numbers.
// Memory              dy and x read once, terms written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<Vector>;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(3) var<storage, read_write> terms: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.width / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let r = inverseRms[params.inverseRmsBase + i / (params.width / WIDTH)];
    terms[params.termsBase / WIDTH + i] = dy[params.dyBase / WIDTH + i] * x[params.xBase / WIDTH + i] * r;
  }
}
