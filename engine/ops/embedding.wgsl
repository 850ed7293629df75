// embedding  y[t] = table[ids[t]]; tokens whose ids lie in another segment of the table are passed by
// Work       one invocation an element of y.
// Memory     a row of the table read and written for each token. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.width) { return; }
  let id = ids[params.idsBase + i / params.width];
  if (id < params.vocabularyStart || id - params.vocabularyStart >= params.vocabulary) { return; }
  y[params.yBase + i] = table[params.tableBase + (id - params.vocabularyStart) * params.width + i % params.width];
}
