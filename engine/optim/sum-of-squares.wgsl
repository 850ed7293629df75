// sumOfSquares  sums[firstChunk + c] = Σ x[i]² over chunk c of `chunk` elements
// Work          one workgroup a chunk; each of LANES invocations takes every LANES-th group of four.
// Constants     LANES: power of two, at most 256.
// Memory        x read once. Bandwidth-bound.
// Precision     f32: chunk / (4 · LANES) terms one after another in each of four sums, then pairwise.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let chunk = flatWorkgroup(group, groups);
  let vectors = params.chunk / 4u;
  let end = min((chunk + 1u) * vectors, (params.size + 3u) / 4u);
  var four = vec4f(0.0);
  for (var i = chunk * vectors + lane; i < end; i += LANES) {
    let v = x[params.xBase / 4u + i];
    four = fma(v, v, four);
  }
  let sum = treeSum(lane, (four.x + four.y) + (four.z + four.w));
  if (lane == 0u && chunk * params.chunk < params.size) { sums[params.sumsBase + params.firstChunk + chunk] = sum; }
}
