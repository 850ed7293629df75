// swiglu     y = gate · sigmoid(gate) · up
// Work       an invocation processes ROUNDS vectors of WIDTH elements (work-split.ts).
// Constants  Vector: vec4f | f32, of WIDTH numbers.
// Stored     f32, or f16 in words: see the output file in `uses`.
// Memory     gate and up read once, y written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> gate: array<Vector>;
@group(0) @binding(1) var<storage, read> up: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.rowSize / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let g = gate[params.gateBase / WIDTH + i];
    storeOutput(params.yBase / WIDTH + i, g * sigmoid(g) * up[params.upBase / WIDTH + i]);
  }
}
