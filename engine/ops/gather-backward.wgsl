// scatterRows  dx[r, :] = dy[places[r], :] where this segment has that row, else 0  (+ dx[r, :] where addToDx)
// Work         one workgroup a row of dx.
// Memory       dx written once, read where added to; each row of dy read once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  if (row >= params.rows) { return; }
  let place = places[params.placesBase + row] - params.sourceStart; // wraps around below the segment
  let isHere = place < params.source;
  if (!isHere && params.addToDx != 0u) { return; }
  for (var i = lane; i < params.rowSize; i += 64u) {
    let at = params.dxBase + row * params.rowSize + i;
    var value = select(0.0, dx[at], params.addToDx != 0u);
    if (isHere) { value += dy[params.dyBase + place * params.rowSize + i]; }
    dx[at] = value;
  }
}
