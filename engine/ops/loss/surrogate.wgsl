// surrogate  ratio = exp(logProbs − oldLogProbs) = ρ;
//            objective = min(ρ·A, clamp(ρ, low, high)·A), or if dropOutside: ρ·A·logProbs, 0 outside [low, high];
//            penalty = e^d − 1 − d with d = referenceLogProbs − logProbs, 0 without reference
// Work       one invocation per token.
// Memory     four vectors read, three written. Bandwidth-bound.
// Precision  f32. ρ is exactly 1 if the log-probabilities are equal (WGSL allows exp(0) an error), and NaN if one of them is NaN:
//            a driver's exp, min and clamp may drop a NaN, which must reach the loss.
@group(0) @binding(0) var<storage, read> logProbs: array<f32>;
@group(0) @binding(1) var<storage, read> oldLogProbs: array<f32>;
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
  let difference = logProb - oldLogProbs[params.oldLogProbsBase + i];
  let isLost = isNaN(difference);
  let rho = select(select(exp(difference), 1.0, difference == 0.0), difference, isLost);
  let advantage = advantages[params.advantagesBase + i];
  let clipped = clamp(rho, params.low, params.high);
  var gain = min(rho * advantage, clipped * advantage);
  if (params.dropOutside != 0u) { gain = select(0.0, rho * advantage * logProb, clipped == rho); }
  objective[params.objectiveBase + i] = select(gain, difference, isLost);
  ratio[params.ratioBase + i] = rho;
  var divergence = 0.0;
  if (params.hasReference != 0u) { divergence = expMinusOneMinusX(referenceLogProbs[params.referenceLogProbsBase + i] - logProb); }
  penalty[params.penaltyBase + i] = divergence;
}
