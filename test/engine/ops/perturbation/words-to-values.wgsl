// randomValues  exponentials, Gumbels and normals of four given words.  For known answers, and for words that are rare.
@group(0) @binding(0) var<storage, read> words: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> exponentials: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> gumbels: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> fourNormals: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.rows) { return; }
  let w = words[params.wordsBase / 4u + i];
  exponentials[params.exponentialsBase / 4u + i] = vec4f(exponential(w.x), exponential(w.y), exponential(w.z), exponential(w.w));
  gumbels[params.gumbelsBase / 4u + i] = vec4f(gumbel(w.x), gumbel(w.y), gumbel(w.z), gumbel(w.w));
  fourNormals[params.fourNormalsBase / 4u + i] = normals(w);
}
