// perturbLookedUp  y[t, c] = (y[t, c] + a·g_δ[ids[t], c]) + b·g_η[ids[t], c], Gaussians drawn again from their counters
// Work             one invocation per token and four elements of its row; fours that the row's ends cut are drawn by both rows.
// Memory           y read and written once. Arithmetic-bound: two Philox calls and four Box–Muller pairs per four.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  let row = i / params.fours;
  if (row >= params.rows) { return; }
  let quad = quadOfRow(ids[params.idsBase + row], params.rowSize, i % params.fours);
  let at = 4u * (i % params.fours) - quad.z; // wraps around before the row's first element
  let name = vec2u(params.name0, params.name1);
  var delta = vec4f(0.0);
  var eta = vec4f(0.0);
  if (params.a != 0.0) { delta = directionNormals(quad.xy, vec2u(params.deltaKey0, params.deltaKey1), name); }
  if (params.b != 0.0) { eta = directionNormals(quad.xy, vec2u(params.etaKey0, params.etaKey1), name); }
  for (var k = 0u; k < 4u; k++) {
    if (at + k < params.rowSize) {
      let place = params.yBase + row * params.rowSize + at + k;
      y[place] = perturbed(y[place], delta[k], eta[k], params.a, params.b);
    }
  }
}
