// directionSquares  partial[p] = Σ g[i]² over piece p of PIECE normals of a stream, which are drawn and never stored
// Work              one workgroup per piece. Each of LANES lanes takes every LANES-th four of elements, then a tree; an invocation computes
//                   SHARE lanes.
// Constants         LANES: power of two.  PIECE: multiple of 4 · LANES.  INVOCATIONS · SHARE = LANES.
// Memory            4 bytes per piece. Arithmetic-bound.
// Precision         f32: PIECE / (4 · LANES) terms one after another in each of four sums, then pairwise; INVOCATIONS change no bit.
@group(0) @binding(0) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) own: u32) {
  let piece = flatWorkgroup(group, groups);
  let end = min(params.count, (piece + 1u) * PIECE);
  let key = vec2u(params.key0, params.key1);
  let name = vec2u(params.name0, params.name1);
  for (var lane = own; lane < LANES; lane += INVOCATIONS) {
    var sums = vec4f(0.0);
    for (var i = piece * PIECE + 4u * lane; i < end; i += 4u * LANES) {
      let drawn = directionNormals(vec2u(params.quadLow + i / 4u, params.quadHigh), key, name);
      let values = select(vec4f(0.0), drawn, i + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
      sums = fma(values, values, sums);
    }
    ofLane[lane] = (sums.x + sums.y) + (sums.z + sums.w);
  }
  let total = sumOfLanes(own);
  if (own == 0u && piece * PIECE < params.count) { partial[params.partialBase + piece] = total; }
}
