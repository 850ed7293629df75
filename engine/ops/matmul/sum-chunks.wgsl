// sumChunks  result[o, c] (+)= Σ_chunk partial[o, chunk, c]
// Work       one invocation per element.
// Memory     partial read once, result read if added to, written once. Bandwidth-bound.
// Precision  f32, chunks ascending, starting from the stored value if it adds.
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.outputs * params.width) { return; }
  var at = params.partialBase + i / params.width * params.chunks * params.width + i % params.width;
  var sum = select(0.0, result[params.resultBase + i], params.addToResult != 0u);
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    sum += partial[at];
    at += params.width;
  }
  result[params.resultBase + i] = sum;
}
