// surrogateBackward  dLogProbs = −dLoss · w · (s·ρ·A + klCoefficient·(e^d − 1))  (+ dLogProbs if addToDLogProbs),
//                    s = d min(ρ·A, clamp(ρ)·A) / d(ρ·A), or if dropOutside: 1 inside [low, high], else 0;
//                    d = referenceLogProbs − logProbs. A token of weight 0 has gradient 0, whatever its numbers are.
// Work               one invocation per token.
// Memory             five vectors read, one written. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> logProbs: array<f32>;
@group(0) @binding(1) var<storage, read> advantages: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> referenceLogProbs: array<f32>;
@group(0) @binding(4) var<storage, read> ratio: array<f32>;
@group(0) @binding(5) var<storage, read> dLoss: array<f32>;
@group(0) @binding(6) var<storage, read_write> dLogProbs: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows) { return; }
  let rho = ratio[params.ratioBase + i];
  let advantage = advantages[params.advantagesBase + i];
  let clippedRho = clamp(rho, params.low, params.high);
  let inside = select(0.0, 1.0, clippedRho == rho);
  var share = inside;
  if (params.dropOutside == 0u) {
    let plain = rho * advantage;
    let clipped = clippedRho * advantage;
    // If both arguments of min are equal, each counts half. The clipped one depends on ρ only inside the bounds.
    if (plain < clipped) { share = 1.0; } else if (plain == clipped) { share = 0.5 + 0.5 * inside; }
  }
  // A ratio that overflowed and is clipped has gradient 0; a NaN in ratio or advantage stays NaN.
  var slope = select(share * rho * advantage, 0.0, share == 0.0 && !isNaN(rho) && !isNaN(advantage));
  if (params.hasReference != 0u) {
    let d = referenceLogProbs[params.referenceLogProbsBase + i] - logProbs[params.logProbsBase + i];
    slope += params.klCoefficient * expMinusOne(d);
  }
  let weight = weights[params.weightsBase + i];
  let before = select(0.0, dLogProbs[params.dLogProbsBase + i], params.addToDLogProbs != 0u);
  dLogProbs[params.dLogProbsBase + i] = before - select(0.0, dLoss[params.dLossBase] * weight * slope, !(weight == 0.0)); // != is false for NaN
}
