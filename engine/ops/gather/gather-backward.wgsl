// scatterRows  dx[r, :] = dy[places[r], :] if this segment has that row, else 0  (+ dx[r, :] if addToDx)
// Work         an invocation processes ROUNDS vectors of WIDTH elements of dx (work-split.ts).
// Constants    Vector: vec4f | f32, of WIDTH numbers.
// Memory       dx written once, read if added to; each row of dy read once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<Vector>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let width = params.rowSize / WIDTH;
    let row = places[params.placesBase + i / width] - params.sourceStart; // wraps around below the segment
    let isHere = row < params.source;
    if (!isHere && params.addToDx != 0u) { continue; }
    let at = params.dxBase / WIDTH + i;
    var value = select(Vector(), dx[at], params.addToDx != 0u);
    if (isHere) { value += dy[params.dyBase / WIDTH + row * width + i % width]; }
    dx[at] = value;
  }
}
