// gatherRows  y[r, :] = x[indices[r], :] for the rows of x in this segment
// Work        an invocation copies ROUNDS vectors of WIDTH elements of y, RUN neighbours of a row at a time (work-split.ts).
// Constants   Vector: vec4f | f32, of WIDTH numbers; RUN: 1 | 4.
// Memory      a row read, a row written. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<Vector>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = flatWorkgroup(group, groups) * 64u * ROUNDS;
  let end = min(start + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  let width = params.rowSize / WIDTH;
  let first = start + lane * RUN;
  // A division costs software drivers as much as the copy: the place is divided once and then moved on.
  var place = first / width;
  var column = first % width;
  for (var i = first; i < end; i += 64u * RUN) {
    let row = indices[params.indicesBase + place] - params.sourceStart; // wraps around below the segment
    if (row < params.source) {
      let at = params.xBase / WIDTH + row * width + column;
      let to = params.yBase / WIDTH + i;
      /* @unroll */ for (var k = 0u; k < RUN; k++) { y[to + k] = x[at + k]; }
    }
    column += 64u * RUN % width;
    place += 64u * RUN / width + select(0u, 1u, column >= width);
    column -= select(0u, width, column >= width);
  }
}
