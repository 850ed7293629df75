// attentionStatistics  statistics[t, h] = (logSumExp[t, h], Σ_d dy[t, h, d]·y[t, h, d])
// Work                 one invocation per token and head.
// Constants            Vector: vec4f | vec2f, of WIDTH numbers; VECTORS of them make a head.
// dy                   as it is, or rounded to f16: see `uses`.
// Memory               y and dy read once. Bandwidth-bound.
// Precision            f32; each lane of a Vector sums its numbers in order.
@group(0) @binding(0) var<storage, read> y: array<Vector>;
@group(0) @binding(1) var<storage, read> dy: array<Vector>;
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = flatWorkgroup(group, groups) * 64u + lane; // token · H + head
  if (item >= params.tokens * params.heads) { return; }
  let outStart = params.yBase / WIDTH + item * VECTORS;
  let gradientStart = params.dyBase / WIDTH + item * VECTORS;
  var products = Vector();
  for (var i = 0u; i < VECTORS; i++) { products = fma(y[outStart + i], upstreamOf(dy[gradientStart + i]), products); }
  statistics[params.statisticsBase / 2u + item] = vec2f(logSumExp[params.logSumExpBase + item], dot(products, Vector(1.0)));
}
