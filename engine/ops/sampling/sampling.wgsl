// sample     id = argmax_v logits[v] / τ − ln E(word of v), ties to the lowest v; τ = 0: argmax of the logits
// Work       one workgroup per draw, from its row; rows in another cell are skipped. Each of LANES invocations takes every
//            LANES-th four of ids: one Philox call for four.
// Constants  LANES: power of two.
// Memory     logits read once. Arithmetic-bound: two logarithms per id.
// Precision  Gumbels within 4e-6; a maximum has no order of summation, so chunks and lanes change nothing.
// Chosen     always.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> rowOf: array<u32>;
@group(0) @binding(2) var<storage, read> counters: array<u32>;
@group(0) @binding(3) var<storage, read> words: array<u32>;
@group(0) @binding(4) var<storage, read_write> score: array<f32>;
@group(0) @binding(5) var<storage, read_write> picked: array<f32>;
@group(0) @binding(6) var<storage, read_write> id: array<u32>;

// A WGSL compiler may assume that no number is infinite: these stand for less than any score, and for more.
const lowest = -3.4028234e38;
const highest = 3.4028234e38;
const noSample = 0xffffffffu;

struct Found { score: f32, logit: f32, id: u32 }
var<workgroup> foundByLane: array<Found, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pick = flatWorkgroup(group, groups);
  let row = rowOfPick(min(pick, params.picks - 1u));
  let isRow = pick < params.picks && row < params.source;
  let columns = select(0u, params.columns, isRow);
  let first = params.logitsBase + row * params.stride;
  var found = Found(lowest, 0.0, noSample);
  for (var column = 4u * lane; column < columns; column += 4u * LANES) {
    var noise = vec4f(0.0);
    if (params.temperature > 0.0) {
      let four = wordsOf(pick, column);
      noise = vec4f(gumbel(four.x), gumbel(four.y), gumbel(four.z), gumbel(four.w));
    }
    /* @unroll */ for (var k = 0u; k < 4u; k++) {
      let at = min(column + k, columns - 1u); // the last one twice changes nothing
      let logit = logits[first + at];
      let kind = bitcast<u32>(logit);
      let isShutOut = kind == 0xff800000u; // −∞
      let isBad = (kind & 0x7fffffffu) >= 0x7f800000u && !isShutOut; // NaN or +∞
      let candidate = select(scaled(logit) + noise[k], highest, isBad);
      if (candidate > found.score && !isShutOut && column + k == at) {
        found = Found(candidate, logit, select(params.columnStart + at, noSample, isBad));
      }
    }
  }
  foundByLane[lane] = found;
  workgroupBarrier();
  if (lane > 0u || !isRow) { return; }
  var before = Found(lowest, 0.0, noSample);
  if (params.isFirst == 0u) { before = Found(score[params.scoreBase + pick], 0.0, id[params.idBase + pick]); }
  var best = before;
  for (var other = 0u; other < LANES; other++) {
    let one = foundByLane[other];
    if (one.score > best.score || (one.score == best.score && one.id < best.id)) { best = one; }
  }
  score[params.scoreBase + pick] = best.score;
  id[params.idBase + pick] = best.id;
  if (best.id == noSample) {
    picked[params.pickedBase + pick] = params.absent;
  } else if (best.id != before.id) {
    picked[params.pickedBase + pick] = scaled(best.logit);
  }
}

fn scaled(logit: f32) -> f32 {
  if (params.temperature > 0.0) { return logit / params.temperature; }
  return logit;
}

// Words of the ids of four columns: drawn from the draw's counter, or as they are given.
fn wordsOf(pick: u32, column: u32) -> vec4u {
  let v = params.columnStart + column;
  if (params.hasWords != 0u) {
    let at = params.wordsBase + pick * params.wordsStride + v;
    return vec4u(words[at], words[at + 1u], words[at + 2u], words[at + 3u]);
  }
  let counter = params.countersBase + 4u * pick;
  return philox(
    vec4u(v / 4u, counters[counter], counters[counter + 1u], counters[counter + 2u]),
    vec2u(params.key0, params.key1));
}
