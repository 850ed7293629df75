// copy        y[i] = x[i]: nothing but memory, the ceiling of every kernel that does little with much.
// Work        an invocation takes ROUNDS vectors of WIDTH elements (engine/ops/elementwise/work-split.ts).
// Constants   Vector: vec4f | f32, of WIDTH numbers.
// Memory      x read once, y written once.
@group(0) @binding(0) var<storage, read> x: array<Vector>;
@group(0) @binding(1) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows / WIDTH);
  for (var i = first; i < end; i += 64u) {
    y[params.yBase / WIDTH + i] = x[params.xBase / WIDTH + i];
  }
}
