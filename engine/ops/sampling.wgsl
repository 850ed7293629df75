// sample     id = argmax_v logits[v] / τ − ln E(word of v), ties to the lowest v; τ = 0: argmax of the logits
// Work       one workgroup a row; each of LANES invocations takes every LANES-th quad of ids: one Philox call a quad.
// Constants  LANES: power of two.
// Memory     logits read once.
// Precision  Gumbels within 4e-6; a maximum has no order of summation, so chunks and lanes change nothing.
// Chosen     always.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> counters: array<u32>;
@group(0) @binding(2) var<storage, read_write> score: array<f32>;
@group(0) @binding(3) var<storage, read_write> picked: array<f32>;
@group(0) @binding(4) var<storage, read_write> id: array<u32>;

const minusInfinityBits = 0xff800000u;
var<workgroup> scoresOfLanes: array<f32, LANES>;
var<workgroup> logitsOfLanes: array<f32, LANES>;
var<workgroup> idsOfLanes: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  let columns = select(0u, params.columns, row < params.rows);
  let counter = params.countersBase + 4u * min(row, params.rows - 1u);
  let first = params.logitsBase + row * params.stride;
  // A value that no compiler folds: −∞ as a constant is refused by WGSL.
  let lowest = bitcast<f32>(minusInfinityBits | (params.isFirst >> 1u));
  var bestScore = lowest;
  var logit = lowest;
  var chosen = 0xffffffffu;
  for (var quad = lane; quad * 4u < columns; quad += LANES) {
    let words = philox(
      vec4u(params.columnStart / 4u + quad, counters[counter], counters[counter + 1u], counters[counter + 2u]),
      vec2u(params.key0, params.key1));
    for (var j = 0u; j < 4u && quad * 4u + j < columns; j++) {
      let value = logits[first + quad * 4u + j];
      let scaled = select(value, value / params.temperature, params.temperature > 0.0);
      let candidate = select(value, scaled + gumbel(words[j]), params.temperature > 0.0);
      if (candidate > bestScore) {
        bestScore = candidate;
        logit = scaled;
        chosen = params.columnStart + quad * 4u + j;
      }
    }
  }
  scoresOfLanes[lane] = bestScore;
  logitsOfLanes[lane] = logit;
  idsOfLanes[lane] = chosen;
  workgroupBarrier();
  if (lane > 0u || columns == 0u) { return; }
  var found = Found(lowest, lowest, 0xffffffffu);
  if (params.isFirst == 0u) {
    found = Found(score[params.scoreBase + row], picked[params.pickedBase + row], id[params.idBase + row]);
  }
  for (var other = 0u; other < LANES; other++) {
    let better = scoresOfLanes[other] > found.score;
    if (better || (scoresOfLanes[other] == found.score && idsOfLanes[other] < found.id)) {
      found = Found(scoresOfLanes[other], logitsOfLanes[other], idsOfLanes[other]);
    }
  }
  score[params.scoreBase + row] = found.score;
  picked[params.pickedBase + row] = found.logit;
  id[params.idBase + row] = found.id;
}

struct Found { score: f32, logit: f32, id: u32 }
