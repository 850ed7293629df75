// headBackward  in place, per logit, with z = logit / temperature, p = e^(z − logSumExp):
//               ((1 at the target − p)·dLogProbs − p·(ln p + entropy)·dEntropy) / temperature
// Work          one workgroup per row and block of columns; each of LANES invocations takes every LANES-th four of columns.
// Constants     LANES.
// Memory        logits read and written once. Bandwidth-bound but for one exp.
@group(0) @binding(0) var<storage, read_write> logits: array<vec4f>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>;
@group(0) @binding(3) var<storage, read> entropy: array<f32>;
@group(0) @binding(4) var<storage, read> dLogProbs: array<f32>;
@group(0) @binding(5) var<storage, read> dEntropy: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let start = group.x * params.blockColumns;
  let count = min(params.blockColumns, params.columns - start);
  let first = (params.logitsBase + row * params.width + start) / 4u;
  let wanted = targets[params.targetsBase + row] - params.firstColumn - start; // wraps around below the block
  let normaliser = logSumExp[params.logSumExpBase + row];
  let ownEntropy = entropy[params.entropyBase + row];
  let dLogProb = dLogProbs[params.dLogProbsBase + row] / params.temperature;
  let dOwnEntropy = dEntropy[params.dEntropyBase + row] / params.temperature;
  for (var four = lane; 4u * four < count; four += LANES) {
    let logP = logits[first + four] / params.temperature - normaliser;
    let p = exp(logP);
    let fromEntropy = select(p * (logP + ownEntropy), vec4f(0.0), p == vec4f(0.0)); // 0 · −∞ counts as 0
    let isTarget = 4u * four + vec4u(0u, 1u, 2u, 3u) == vec4u(wanted);
    logits[first + four] = (select(vec4f(0.0), vec4f(1.0), isTarget) - p) * dLogProb - fromEntropy * dOwnEntropy;
  }
}
