// sumChunks  result[o, c] (+)= Σ_chunk partial[o, chunk, c]
// Work       one invocation per WIDTH neighbours of the result.
// Constants  Vector: vec4f | f32, of WIDTH numbers.
// Memory     partial read once, result read if added to, written once. Bandwidth-bound.
// Precision  f32, chunks ascending, starting from the stored value if it adds.
@group(0) @binding(0) var<storage, read> partial: array<Vector>;
@group(0) @binding(1) var<storage, read_write> result: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  let width = params.width / WIDTH;
  if (i >= params.outputs * width) { return; }
  let place = params.resultBase / WIDTH + i;
  var at = params.partialBase / WIDTH + i / width * params.chunks * width + i % width;
  var sum = select(Vector(), result[place], params.addToResult != 0u);
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    sum += partial[at];
    at += width;
  }
  result[place] = sum;
}
