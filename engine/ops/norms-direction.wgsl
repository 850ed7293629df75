// directionSquares  partial[p] = Σ g[i]² over piece p of 4,096 normals of a stream, which are drawn and never stored
// Work              one workgroup a piece; each of LANES invocations takes every LANES-th quad, then a tree.
// Constants         LANES: power of two.
// Memory            4 bytes a piece. Arithmetic-bound.
@group(0) @binding(0) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let piece = flatWorkgroup(group, groups);
  let end = min(params.count, (piece + 1u) * 4096u);
  var sum = 0.0;
  for (var quad = piece * 1024u + lane; quad * 4u < end; quad += LANES) {
    let values = normals(philox(vec4u(quad, 0u, params.name0, params.name1), vec2u(params.key0, params.key1)));
    for (var j = 0u; j < 4u; j++) {
      if (quad * 4u + j < end) { sum = fma(values[j], values[j], sum); }
    }
  }
  let total = treeSum(lane, sum);
  if (lane == 0u && piece * 4096u < params.count) { partial[params.partialBase + piece] = total; }
}
