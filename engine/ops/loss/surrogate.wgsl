// surrogate  ratio = exp(logProbs − oldLogProbs), or exp(logRatios) if there are: ρ;
//            form 0  objective = min(min(ρ, cap)·A, clamp(ρ, low, high)·A)
//            form 1  objective = ρ·A·logProbs, 0 outside [low, high]
//            form 2  objective = min(ρ, cap)·A·logProbs
//            form 3  objective = 4/τ · A / (1 + e^(−τ(ρ − 1))), τ = high if A > 0, else low
//            penalty = e^d − 1 − d with d = referenceLogProbs − logProbs, times ρ if penaltyTimesRatio, 0 without reference
//            A cap of 0 is none. ratioSource holds oldLogProbs or logRatios.
// Work       one invocation per token.
// Memory     four vectors read, three written. Bandwidth-bound.
// Precision  f32. ρ is exactly 1 if the log-probabilities are equal (WGSL allows exp(0) an error), and NaN if one of them is NaN:
//            a driver's exp, min and clamp may drop a NaN, which must reach the loss.
@group(0) @binding(0) var<storage, read> logProbs: array<f32>;
@group(0) @binding(1) var<storage, read> ratioSource: array<f32>;
@group(0) @binding(2) var<storage, read> advantages: array<f32>;
@group(0) @binding(3) var<storage, read> referenceLogProbs: array<f32>;
@group(0) @binding(4) var<storage, read_write> objective: array<f32>;
@group(0) @binding(5) var<storage, read_write> ratio: array<f32>;
@group(0) @binding(6) var<storage, read_write> penalty: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows) { return; }
  let logProb = logProbs[params.logProbsBase + i];
  let source = ratioSource[params.ratioSourceBase + i];
  let difference = select(logProb - source, source, params.hasLogRatios != 0u);
  let isLost = isNaN(difference);
  let rho = select(select(exp(difference), 1.0, difference == 0.0), difference, isLost);
  let capped = select(rho, min(rho, params.cap), params.cap > 0.0);
  let advantage = advantages[params.advantagesBase + i];
  let clipped = clamp(rho, params.low, params.high);
  var gain = min(capped * advantage, clipped * advantage);
  if (params.form == 1u) { gain = select(0.0, rho * advantage * logProb, clipped == rho); }
  if (params.form == 2u) { gain = capped * advantage * logProb; }
  if (params.form == 3u) {
    let temperature = select(params.low, params.high, advantage > 0.0);
    gain = 4.0 / temperature / (1.0 + exp(temperature * (1.0 - rho))) * advantage;
  }
  objective[params.objectiveBase + i] = select(gain, difference, isLost);
  ratio[params.ratioBase + i] = rho;
  var divergence = 0.0;
  if (params.hasReference != 0u) { divergence = expMinusOneMinusX(referenceLogProbs[params.referenceLogProbsBase + i] - logProb); }
  if (params.penaltyTimesRatio != 0u) { divergence *= rho; }
  penalty[params.penaltyBase + i] = divergence;
}
