// gatherRows  y[r, :] = x[indices[r], :] for the rows of x in this segment
// Work        an invocation processes ROUNDS vectors of WIDTH elements of y (work-split.ts).
// Constants   Vector: vec4f | f32, of WIDTH numbers.
// Memory      a row read, a row written. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<Vector>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  let width = params.rowSize / WIDTH;
  // A division costs software drivers as much as the copy: the place is divided once and then moved on.
  var place = first / width;
  var column = first % width;
  for (var i = first; i < end; i += 64u) {
    let row = indices[params.indicesBase + place] - params.sourceStart; // wraps around below the segment
    if (row < params.source) { y[params.yBase / WIDTH + i] = x[params.xBase / WIDTH + row * width + column]; }
    column += 64u % width;
    place += 64u / width + select(0u, 1u, column >= width);
    column -= select(0u, width, column >= width);
  }
}
