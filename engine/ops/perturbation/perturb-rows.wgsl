// perturbRows  slot[e] = (weight[e] + a·g_δ[e]) + b·g_η[e], Gaussians drawn again from their counters
// Work         one invocation per four elements; four that a segment boundary cuts are drawn on both sides.
// Memory       weight read once, slot written once. Arithmetic-bound: two Philox calls and four Box–Muller pairs per four.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> slot: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  let count = params.rows * params.rowSize;
  let quad = quadOfRow(params.firstRow + params.rowsStart, params.rowSize, i);
  if (4u * i >= quad.z + count) { return; }
  let name = vec2u(params.name0, params.name1);
  var delta = vec4f(0.0);
  var eta = vec4f(0.0);
  if (params.a != 0.0) { delta = directionNormals(quad.xy, vec2u(params.deltaKey0, params.deltaKey1), name); }
  if (params.b != 0.0) { eta = directionNormals(quad.xy, vec2u(params.etaKey0, params.etaKey1), name); }
  let at = 4u * i - quad.z; // wraps around before the cell's first element
  let source = params.weightBase + at;
  let place = params.slotBase + at;
  if (at < count && at + 3u < count) {
    /* @unroll */ for (var k = 0u; k < 4u; k++) { slot[place + k] = perturbed(weight[source + k], delta[k], eta[k], params.a, params.b); }
    return;
  }
  for (var k = 0u; k < 4u; k++) {
    if (at + k < count) { slot[place + k] = perturbed(weight[source + k], delta[k], eta[k], params.a, params.b); }
  }
}
