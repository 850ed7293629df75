// gatherRows  y[r, :] = x[indices[r], :] for the rows of x in this segment
// Work        one workgroup a row.
// Memory      a row read, a row written. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  if (row >= params.rows) { return; }
  let place = indices[params.indicesBase + row] - params.sourceStart; // wraps around below the segment
  if (place >= params.source) { return; }
  for (var i = lane; i < params.rowSize; i += 64u) {
    y[params.yBase + row * params.rowSize + i] = x[params.xBase + place * params.rowSize + i];
  }
}
