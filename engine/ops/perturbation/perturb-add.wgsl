// addDirections  slot[e] = (weight[e] + a·delta[e]) + b·eta[e]
// Work           one invocation an element.
// Memory         three reads, one write. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> eta: array<f32>;
@group(0) @binding(3) var<storage, read_write> slot: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  slot[params.slotBase + i] = perturbed(weight[params.weightBase + i], delta[params.deltaBase + i], eta[params.etaBase + i]);
}
