// logitScores  of each pick: joins its row's blocks {m_b, s_b, w_b}, in ascending order, relative to m = max m_b:
//              s = Σ e^(m_b − m)·s_b,   w = Σ e^(m_b − m)·(w_b + (m_b − m)·s_b)
//              logSumExp = m + ln s,   entropy = ln s − w / s,   logProb = (picked − m) − ln s
// Work         one invocation per pick. Rows in another cell are skipped.
// Memory       12 bytes read per block, 12 written per pick.
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> rowOf: array<u32>;
@group(0) @binding(2) var<storage, read> picked: array<f32>;
@group(0) @binding(3) var<storage, read_write> logProbs: array<f32>;
@group(0) @binding(4) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(5) var<storage, read_write> logSumExp: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let pick = id.x;
  if (pick >= params.picks) { return; }
  let row = rowOfPick(pick);
  if (row >= params.source) { return; }
  let first = params.sumsBase + 3u * row * params.blocks;
  var largest = sums[first];
  for (var block = 1u; block < params.blocks; block++) { largest = max(largest, sums[first + 3u * block]); }
  var sum = 0.0;
  var weighted = 0.0;
  for (var block = 0u; block < params.blocks; block++) {
    let at = first + 3u * block;
    let shift = sums[at] - largest;
    let factor = exp(shift);
    sum += factor * sums[at + 1u];
    weighted += factor * (sums[at + 2u] + shift * sums[at + 1u]);
  }
  // A NaN logit makes the sum NaN, or infinite if exp(NaN) is infinite. A driver's log may turn either into a finite number.
  let logSum = select(notANumber(), log(sum), isFinite(sum));
  logProbs[params.logProbsBase + pick] = (picked[params.pickedBase + pick] - largest) - logSum;
  entropy[params.entropyBase + pick] = logSum - weighted / sum;
  logSumExp[params.logSumExpBase + pick] = largest + logSum;
}
