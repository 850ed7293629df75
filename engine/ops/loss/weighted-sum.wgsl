// weightedSum  y = factor · Σ weights[i] · x[i]  (+ y if addToY); a weight of 0 leaves its term out,
//              whatever it is, and a NaN weight gives NaN
// Work         one workgroup; each of LANES invocations takes every LANES-th term.
// Constants    LANES: power of two, at most 256.
// Memory       x and weights read once.
// Precision    f32: rows / LANES terms one after another, then pairwise in a fixed order. If the vector has several segments,
//              the sum of each is added to those before it.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.rows; i += LANES) {
    let weight = weights[params.weightsBase + i];
    sum += select(0.0, weight * x[params.xBase + i], !(weight == 0.0)); // != is false for NaN on every driver
  }
  let total = treeSum(lane, sum);
  if (lane == 0u) {
    let before = select(0.0, y[params.yBase], params.addToY != 0u);
    y[params.yBase] = before + params.factor * total;
  }
}
