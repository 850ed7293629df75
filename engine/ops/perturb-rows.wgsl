// perturbRows  slot[e] = (weight[e] + a·g_δ[e]) + b·g_η[e], Gaussians drawn again from their counters
// Work         one invocation a quad of elements; a quad that a segment boundary cuts is drawn on both sides.
// Memory       weight read once, slot written once. Arithmetic-bound: two Philox calls and four Box–Muller pairs a quad.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> slot: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = params.rowsStart * params.rowSize;
  let end = first + params.rows * params.rowSize;
  let quad = first / 4u + flatWorkgroup(group, groups) * 64u + lane;
  if (quad * 4u >= end) { return; }
  let counter = vec4u(quad, 0u, params.name0, params.name1);
  let delta = normals(philox(counter, vec2u(params.deltaKey0, params.deltaKey1)));
  let eta = normals(philox(counter, vec2u(params.etaKey0, params.etaKey1)));
  for (var j = 0u; j < 4u; j++) {
    let element = quad * 4u + j;
    if (element >= first && element < end) {
      let i = element - first;
      slot[params.slotBase + i] = perturbed(weight[params.weightBase + i], delta[j], eta[j]);
    }
  }
}
