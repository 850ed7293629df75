// weightedNormals  y[e] = Σ_k coefficients[k] · g_k[e], with g_k normal number e of the stream (keys[k], name)
// Work             one invocation per four elements, which draws all its Gaussians; four that a segment boundary cuts are drawn on
//                  both sides.
// Memory           y written once. Arithmetic-bound: ten Philox rounds and two Box–Muller pairs for four elements of each stream.
// Precision        f32, k ascending, one fma per stream: the same bits on each run of one adapter.
@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  let total = params.rows * params.rowSize;
  let quad = quadOfRow(params.rowsStart, params.rowSize, i);
  if (4u * i >= quad.z + total) { return; }
  let name = vec2u(params.name0, params.name1);
  var sums = vec4f(0.0);
  for (var k = 0u; k < params.count; k++) {
    let at = params.keysBase + 2u * k;
    let drawn = directionNormals(quad.xy, vec2u(keys[at], keys[at + 1u]), name);
    sums = fma(vec4f(coefficients[params.coefficientsBase + k]), drawn, sums);
  }
  let at = 4u * i - quad.z; // wraps around before the cell's first element
  for (var k = 0u; k < 4u; k++) {
    if (at + k < total) { y[params.yBase + at + k] = sums[k]; }
  }
}
