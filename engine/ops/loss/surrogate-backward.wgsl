// surrogateBackward  dLogProbs = −dLoss · w · (a + b)  (+ dLogProbs if addToDLogProbs),
//                    a the policy's part:  form 0  s·ρ·A with s = d min(min(ρ, cap)·A, clamp(ρ)·A) / d(ρ·A)
//                                          form 1  ρ·A inside [low, high], else 0
//                                          form 2  min(ρ, cap)·A
//                                          form 3  4·g·(1 − g)·ρ·A with g = 1 / (1 + e^(−τ(ρ − 1))), τ = high if A > 0, else low
//                    b the penalty's: klCoefficient·(e^d − 1), d = referenceLogProbs − logProbs; if penaltyTimesRatio:
//                    klCoefficient·ρ·(e^d − 1), and −klCoefficient·ρ·(e^d − 1 − d) through ρ.
//                    routes 0: all of it; 1: what depends on logProbs directly; 2: what depends on them through ρ (a of forms 0
//                    and 3, and b's part through ρ), which is the gradient of the log-ratios.
//                    A token of weight 0 has gradient 0, whatever its numbers are.
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
  let capped = select(rho, min(rho, params.cap), params.cap > 0.0);
  let clippedRho = clamp(rho, params.low, params.high);
  let inside = select(0.0, 1.0, clippedRho == rho);
  var share = inside;
  var factor = rho;
  if (params.form == 0u) {
    let plain = capped * advantage;
    let clipped = clippedRho * advantage;
    let uncapped = select(0.0, 1.0, capped == rho);
    // If both arguments of min are equal, each counts half. The clipped one depends on ρ only inside the bounds, the other only
    // up to the cap.
    if (plain < clipped) { share = uncapped; } else if (plain == clipped) { share = 0.5 * uncapped + 0.5 * inside; }
  }
  if (params.form == 2u) {
    share = 1.0;
    factor = capped;
  }
  if (params.form == 3u) {
    // 1 − g without cancellation: both are exact to their last digits.
    let e = exp(select(params.low, params.high, advantage > 0.0) * (1.0 - rho));
    share = 4.0 * (1.0 / (1.0 + e)) * (e / (1.0 + e));
  }
  // A ratio that overflowed and is clipped has gradient 0; a NaN in ratio or advantage stays NaN.
  var slope = select(share * factor * advantage, 0.0, share == 0.0 && !isNaN(rho) && !isNaN(advantage));
  let ownRoute = select(1u, 2u, params.form == 0u || params.form == 3u);
  if (params.routes != 0u && params.routes != ownRoute) { slope = 0.0; }
  if (params.hasReference != 0u) {
    let d = referenceLogProbs[params.referenceLogProbsBase + i] - logProbs[params.logProbsBase + i];
    let by = select(1.0, rho, params.penaltyTimesRatio != 0u);
    if (params.routes != 2u) { slope += params.klCoefficient * by * expMinusOne(d); }
    if (params.routes != 1u && params.penaltyTimesRatio != 0u) { slope -= params.klCoefficient * rho * expMinusOneMinusX(d); }
  }
  let weight = weights[params.weightsBase + i];
  let before = select(0.0, dLogProbs[params.dLogProbsBase + i], params.addToDLogProbs != 0u);
  dLogProbs[params.dLogProbsBase + i] = before - select(0.0, dLoss[params.dLossBase] * weight * slope, !(weight == 0.0)); // != is false for NaN
}
