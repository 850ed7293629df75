// softmax    y = e^(x − max) / Σ e^(x − max), or its logarithm if isLog
// Work       one invocation per row, columns ascending.
// Memory     x is read three times (twice from cache), y written once.
// Precision  one f32 sum of positive terms.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows * params.inner || params.width == 0u) { return; }
  let first = row * params.width;
  var largest = x[params.xBase + first];
  for (var v = 1u; v < params.width; v++) { largest = max(largest, x[params.xBase + first + v]); }
  var sum = 0.0;
  for (var v = 0u; v < params.width; v++) { sum += exp(x[params.xBase + first + v] - largest); }
  // A NaN makes the sum NaN, or infinite if exp(NaN) is infinite: the whole row is then NaN, whatever the driver's log returns.
  let isLost = !isFinite(sum);
  let logSum = log(sum);
  for (var v = 0u; v < params.width; v++) {
    let shifted = x[params.xBase + first + v] - largest;
    y[params.yBase + first + v] =
      select(select(exp(shifted) / sum, shifted - logSum, params.isLog != 0u), notANumber(), isLost);
  }
}
