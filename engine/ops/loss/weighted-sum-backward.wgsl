// weightedSumBackward  dx[i] = dy · weights[i]  (+ dx[i] if addToDx)
// Work                 one invocation per element.
// Memory               weights read once, dx read if added to, written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows) { return; }
  let before = select(0.0, dx[params.dxBase + i], params.addToDx != 0u);
  dx[params.dxBase + i] = before + dy[params.dyBase] * weights[params.weightsBase + i];
}
