// logitSums  of each block of blockColumns columns, z = logits / temperature:  m = max z,  s = Σ e^(z − m),  w = Σ (z − m)·e^(z − m)
// Work       one workgroup per row and block; each of LANES invocations takes every LANES-th four of columns and keeps its sums
//            relative to its largest z so far; then neighbouring sums are joined pairwise.
// Constants  LANES: power of two.
// Memory     logits read once, 12 bytes written per block. Five exps for four elements.
// Precision  f32: fours one after another, then a tree; the order depends on the vocabulary alone.
@group(0) @binding(0) var<storage, read> logits: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

// {m, s, w} of each invocation's columns.
var<workgroup> partial: array<vec3f, LANES>;

fn join(a: vec3f, b: vec3f) -> vec3f {
  let largest = max(a.x, b.x);
  let shift = vec2f(a.x, b.x) - largest;
  let factor = exp(shift);
  return vec3f(largest, factor.x * a.y + factor.y * b.y, factor.x * (a.z + shift.x * a.y) + factor.y * (b.z + shift.y * b.y));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = group.x * params.blockColumns;
  let count = min(params.blockColumns, params.columns - start);
  let first = (params.logitsBase + group.y * params.width + start) / 4u;
  // Lowest but finite, so that an invocation without a column, or a logit of −∞, adds exactly 0.
  var largest = -3.0e38;
  var sum = 0.0;
  var weighted = 0.0;
  for (var four = lane; 4u * four < count; four += LANES) {
    let isColumn = 4u * four + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let z = select(vec4f(-3.0e38), logits[first + four] / params.temperature, isColumn);
    let before = largest;
    largest = max(max(max(z.x, z.y), max(z.z, z.w)), before);
    let shift = z - largest;
    let term = select(vec4f(0.0), exp(shift), isColumn);
    let weightedTerm = select(shift * term, vec4f(0.0), term == vec4f(0.0));
    let factor = exp(before - largest);
    weighted = factor * (weighted + (before - largest) * sum) + ((weightedTerm.x + weightedTerm.y) + (weightedTerm.z + weightedTerm.w));
    sum = factor * sum + ((term.x + term.y) + (term.z + term.w));
  }
  partial[lane] = vec3f(largest, sum, weighted);
  workgroupBarrier();
  for (var step = 1u; step < LANES; step *= 2u) {
    if (lane % (2u * step) == 0u) { partial[lane] = join(partial[lane], partial[lane + step]); }
    workgroupBarrier();
  }
  if (lane == 0u) {
    let at = params.sumsBase + 3u * (group.y * params.blocks + params.firstBlock + group.x);
    sums[at] = partial[0].x;
    sums[at + 1u] = partial[0].y;
    sums[at + 2u] = partial[0].z;
  }
}
