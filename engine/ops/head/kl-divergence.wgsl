// klTerms    of each block of columns  Σ p·(e^d − 1 − d),  d = ln q − ln p,  ln p = logitsP / temperature − logSumExpP, q likewise
// Work       one workgroup per row of Q and block; rows whose row of P is in another cell are skipped. Each of LANES invocations takes every LANES-th four of columns, then a tree.
// Constants  LANES: power of two.
// Memory     both logits read once; 4 bytes written per block. Two exps per element.
// Precision  f32; near d = 0 a series, so that a small divergence keeps its digits.
@group(0) @binding(0) var<storage, read> logitsP: array<vec4f>;
@group(0) @binding(1) var<storage, read> logitsQ: array<vec4f>;
@group(0) @binding(2) var<storage, read> rowOf: array<u32>;
@group(0) @binding(3) var<storage, read> logSumExpP: array<f32>;
@group(0) @binding(4) var<storage, read> logSumExpQ: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

// p·(e^d − 1 − d)
fn term(logP: vec4f, logQ: vec4f) -> vec4f {
  let d = logQ - logP;
  let p = exp(logP);
  // d²/2! + d³/3! + … + d⁹/9!: what follows is below 2⁻²⁴ of it for |d| < 0.6.
  var series = fma(d, vec4f(1.0 / 362880.0), vec4f(1.0 / 40320.0));
  series = fma(d, series, vec4f(1.0 / 5040.0));
  series = fma(d, series, vec4f(1.0 / 720.0));
  series = fma(d, series, vec4f(1.0 / 120.0));
  series = fma(d, series, vec4f(1.0 / 24.0));
  series = fma(d, series, vec4f(1.0 / 6.0));
  series = fma(d, series, vec4f(0.5));
  // For larger |d|, p·e^d is q: e^d may overflow where p has underflowed. 0 · ∞ counts as 0, as does a q that underflowed.
  let direct = exp(logQ) - select(p * (1.0 + d), vec4f(0.0), p == vec4f(0.0));
  return select(select(direct, vec4f(0.0), direct < vec4f(0.0)), p * (d * d) * series, abs(d) < vec4f(0.6));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let rowP = rowOfPick(row);
  let isHere = rowP < params.source;
  let start = group.x * params.blockColumns;
  let count = min(params.blockColumns, params.columns - start);
  let firstP = (params.logitsPBase + rowP * params.width + start) / 4u;
  let firstQ = (params.logitsQBase + row * params.width + start) / 4u;
  let normaliserP = logSumExpP[params.logSumExpPBase + select(0u, rowP, isHere)];
  let normaliserQ = logSumExpQ[params.logSumExpQBase + row];
  var own = vec4f(0.0);
  for (var four = lane; isHere && 4u * four < count; four += LANES) {
    let logP = logitsP[firstP + four] / params.temperature - normaliserP;
    let logQ = logitsQ[firstQ + four] / params.temperature - normaliserQ;
    let isColumn = 4u * four + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    own += select(vec4f(0.0), term(logP, logQ), isColumn);
  }
  let sum = treeSum(lane, (own.x + own.y) + (own.z + own.w));
  if (lane == 0u && isHere) { sums[params.sumsBase + row * params.blocks + params.firstBlock + group.x] = sum; }
}
