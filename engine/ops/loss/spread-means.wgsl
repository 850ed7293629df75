// spreadMeans  y[t] = means[sequenceOf[t]]  (+ y[t] if addToY). Of the sequences, only those of this segment count.
// Work         one invocation per token.
// Memory       y written once, read if added to. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> means: array<f32>;
@group(0) @binding(1) var<storage, read> sequenceOf: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatWorkgroup(group, groups) * 256u + lane;
  if (t >= params.tokens) { return; }
  let s = sequenceOf[params.sequenceOfBase + t] - params.sequencesStart; // wraps around below the segment
  let isHere = s < params.sequences;
  if (!isHere && params.addToY != 0u) { return; }
  var value = select(0.0, y[params.yBase + t], params.addToY != 0u);
  if (isHere) { value += means[params.meansBase + s]; }
  y[params.yBase + t] = value;
}
