// sequenceMeans  means[s] = Σ x[t] / lengths[s] over the tokens t of sequence s, starts[s] ≤ t < starts[s] + lengths[s]
//                (+ means[s] if addToMeans); 0 for a sequence without tokens
// Work           one workgroup per sequence; each of LANES invocations takes every LANES-th of its tokens.
// Constants      LANES: power of two, at most 256.
// Memory         x read once.
// Precision      f32: terms one after another within a lane, then pairwise in a fixed order, which depends on the sequence alone.
//                If the vector has several segments, the part of each is added to those before it.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> means: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let s = flatWorkgroup(group, groups);
  if (s >= params.sequences) { return; }
  let first = starts[params.startsBase + s];
  let length = lengths[params.lengthsBase + s];
  let end = params.tokensStart + params.tokens;
  var sum = 0.0;
  for (var t = first + lane; t < min(first + length, end); t += LANES) {
    if (t >= params.tokensStart) { sum += x[params.xBase + t - params.tokensStart]; }
  }
  let total = treeSum(lane, sum);
  if (lane == 0u) {
    let before = select(0.0, means[params.meansBase + s], params.addToMeans != 0u);
    means[params.meansBase + s] = before + total / f32(max(length, 1u));
  }
}
