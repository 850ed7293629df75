// embedding  y[t] = table[ids[t]]; skips tokens whose ids lie in another segment of the table
// Work       an invocation processes ROUNDS vectors of WIDTH elements of y (work-split.ts).
// Constants  Vector: vec4f | f32, of WIDTH numbers.
// Memory     a row of the table read and written for each token. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.width / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let width = params.width / WIDTH;
    let row = ids[params.idsBase + i / width] - params.vocabularyStart; // wraps around below the segment
    if (row < params.vocabulary) { y[params.yBase / WIDTH + i] = table[params.tableBase / WIDTH + row * width + i % width]; }
  }
}
