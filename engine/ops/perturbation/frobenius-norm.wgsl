// tensorSquares  partial[p] = Σ x[i]² over piece p of PIECE elements
// Work           one workgroup per piece. Each of LANES lanes takes every LANES-th element, then a tree; an invocation computes SHARE lanes.
// Constants      LANES: power of two.  PIECE: multiple of 4 · LANES.  INVOCATIONS · SHARE = LANES.
// Memory         x read once. Bandwidth-bound.
// Precision      f32: PIECE / (4 · LANES) terms one after another in each of four sums, then pairwise; INVOCATIONS change no bit.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) own: u32) {
  let piece = flatWorkgroup(group, groups);
  let end = min(params.count, (piece + 1u) * PIECE);
  for (var lane = own; lane < LANES; lane += INVOCATIONS) {
    var sums = vec4f(0.0);
    for (var i = piece * PIECE + lane; i < end; i += 4u * LANES) {
      let at = i + LANES * vec4u(0u, 1u, 2u, 3u);
      let loaded = vec4f(x[params.xBase + at.x], x[params.xBase + at.y], x[params.xBase + at.z], x[params.xBase + at.w]);
      let values = select(vec4f(0.0), loaded, at < vec4u(end));
      sums = fma(values, values, sums);
    }
    ofLane[lane] = (sums.x + sums.y) + (sums.z + sums.w);
  }
  let total = sumOfLanes(own);
  if (own == 0u && piece * PIECE < params.count) { partial[params.partialBase + piece] = total; }
}
