// embedding  y[t] = table[ids[t]]; skips tokens whose ids lie in another segment of the table
// Work       an invocation copies ROUNDS vectors of WIDTH elements of y, RUN neighbours of a row at a time (work-split.ts).
// Constants  Vector: vec4f | f32, of WIDTH numbers; RUN: 1 | 4.
// Memory     a row of the table read and written for each token. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = flatWorkgroup(group, groups) * 64u * ROUNDS;
  let end = min(start + 64u * ROUNDS, params.rows * params.width / WIDTH);
  let width = params.width / WIDTH;
  for (var i = start + lane * RUN; i < end; i += 64u * RUN) {
    let row = ids[params.idsBase + i / width] - params.vocabularyStart; // wraps around below the segment
    if (row >= params.vocabulary) { continue; }
    let at = (params.tableBase + slotStart(i / width)) / WIDTH + row * width + i % width;
    let to = params.yBase / WIDTH + i;
    /* @unroll */ for (var k = 0u; k < RUN; k++) { y[to + k] = table[at + k]; }
  }
}
