// swigluBackward  s = sigmoid(gate);  which 0: d = dy · up · s · (1 + gate · (1 − s));  which 1: d = dy · gate · s
// Work            an invocation processes ROUNDS vectors of WIDTH elements (work-split.ts).
// Constants       Vector: vec4f | f32, of WIDTH numbers.
// Memory          dy, gate and up read once, d written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> dy: array<Vector>;
@group(0) @binding(1) var<storage, read> gate: array<Vector>;
@group(0) @binding(2) var<storage, read> up: array<Vector>;
@group(0) @binding(3) var<storage, read_write> d: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let g = gate[params.gateBase / WIDTH + i];
    let s = sigmoid(g);
    let slope = select(g * s, up[params.upBase / WIDTH + i] * s * (1.0 + g * (1.0 - s)), params.which == 0u);
    let place = params.dBase / WIDTH + i;
    let before = select(Vector(), d[place], params.addToD != 0u);
    d[place] = before + dy[params.dyBase / WIDTH + i] * slope;
  }
}
