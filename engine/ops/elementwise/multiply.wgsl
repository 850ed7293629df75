// multiply   y[i] = a[i] · b[i]  (+ y[i] if addToY)
// Work       an invocation processes ROUNDS vectors of WIDTH elements (work-split.ts).
// Constants  Vector: vec4f | f32, of WIDTH numbers.
// Memory     a and b read once, y read if added to, written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> a: array<Vector>;
@group(0) @binding(1) var<storage, read> b: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let place = params.yBase / WIDTH + i;
    let before = select(Vector(), y[place], params.addToY != 0u);
    y[place] = before + a[params.aBase / WIDTH + i] * b[params.bBase / WIDTH + i];
  }
}
