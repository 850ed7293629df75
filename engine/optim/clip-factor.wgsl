// clipFactor  control = [min(1, maxGradientNorm / (norm + 1e-6)) · unscale, norm, 1 if norm and losses are finite, else 0],
//             norm = sqrt(Σ sums) · unscale
// Work        one workgroup.
// Constants   LANES: power of two, at most 256.
// Memory      one number per chunk of gradients, and the losses.
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> control: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.chunks; i += LANES) { sum += sums[params.sumsBase + i]; }
  let squared = treeSum(lane, sum);
  var bad = 0.0;
  for (var i = lane; i < params.lossCount; i += LANES) {
    if (!isFinite(losses[params.lossesBase + i])) { bad = 1.0; }
  }
  let badLosses = treeSum(lane, bad);
  if (lane == 0u) {
    let norm = sqrt(squared) * params.unscale;
    control[params.controlBase] = min(1.0, params.maxGradientNorm / (norm + 1e-6)) * params.unscale;
    control[params.controlBase + 1u] = norm;
    control[params.controlBase + 2u] = select(0.0, 1.0, isFinite(squared) && badLosses == 0.0);
  }
}
