// perturbPanels  slot[r / 8, c, r % 8] = (weight[r, c] + a·g_δ) + b·g_η: the forward product's copy of a perturbed matrix
// Work           one invocation a quad of the weight's elements, of the rows that the two cells have in common.
// Memory         weight read once, slot written once, eight floats apart. Arithmetic-bound, as perturbRows.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> slot: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = max(params.rowsStart, params.panelsStart * 8u) * params.rowSize;
  let end = min(params.rowsStart + params.rows, (params.panelsStart + params.panels) * 8u) * params.rowSize;
  let quad = first / 4u + flatWorkgroup(group, groups) * 64u + lane;
  if (quad * 4u >= end) { return; }
  let counter = vec4u(quad, 0u, params.name0, params.name1);
  let delta = normals(philox(counter, vec2u(params.deltaKey0, params.deltaKey1)));
  let eta = normals(philox(counter, vec2u(params.etaKey0, params.etaKey1)));
  for (var j = 0u; j < 4u; j++) {
    let element = quad * 4u + j;
    if (element >= first && element < end) {
      let row = element / params.rowSize;
      let column = element % params.rowSize;
      let value = weight[params.weightBase + element - params.rowsStart * params.rowSize];
      let place = ((row / 8u - params.panelsStart) * params.rowSize + column) * 8u + row % 8u;
      slot[params.slotBase + place] = perturbed(value, delta[j], eta[j]);
    }
  }
}
