// tensorSquares  partial[p] = Σ x[i]² over piece p of 4,096 elements
// Work           one workgroup a piece; each of LANES invocations takes every LANES-th element, then a tree.
// Constants      LANES: power of two.
// Memory         x read once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let piece = flatWorkgroup(group, groups);
  let end = min(params.count, (piece + 1u) * 4096u);
  var sum = 0.0;
  for (var i = piece * 4096u + lane; i < end; i += LANES) {
    let value = x[params.xBase + i];
    sum = fma(value, value, sum);
  }
  let total = treeSum(lane, sum);
  if (lane == 0u && piece * 4096u < params.count) { partial[params.partialBase + piece] = total; }
}
