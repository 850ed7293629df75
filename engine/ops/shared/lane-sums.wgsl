// Sum of LANES values (a power of two) by INVOCATIONS invocations, pairwise in the order of treeSum. Each invocation first
// stores the values of SHARE = LANES / INVOCATIONS lanes in `ofLane`: lanes own, own + INVOCATIONS, …. Barriers are expensive on
// software drivers, so they use few invocations; the number of invocations changes no bit.
var<workgroup> ofLane: array<f32, LANES>;

fn sumOfLanes(own: u32) -> f32 {
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    for (var lane = own; lane < half; lane += INVOCATIONS) { ofLane[lane] += ofLane[lane + half]; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&ofLane[0]);
}
