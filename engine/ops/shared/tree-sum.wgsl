// Sum of one value from each of LANES invocations (a power of two), pairwise in a fixed order; all of them get the result.
var<workgroup> treeSums: array<f32, LANES>;

fn treeSum(lane: u32, value: f32) -> f32 {
  treeSums[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { treeSums[lane] += treeSums[lane + half]; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&treeSums[0]);
}
