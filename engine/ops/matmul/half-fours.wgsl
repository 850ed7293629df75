// toHalfFours  half[i] = x[i] in f16, as in half.wgsl, four elements at a time
// Work         an invocation takes ROUNDS fours, LANES apart.
// Memory       x read once, half written once: 6 bytes per element. Bandwidth-bound.
// Chosen       if x and half begin and are cut at multiples of four.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> half: array<vec2u>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * LANES * ROUNDS + lane;
  let end = min(first + LANES * ROUNDS, params.rows * params.rowSize / 4u);
  for (var i = first; i < end; i += LANES) {
    let four = x[params.xBase / 4u + i];
    half[params.halfBase / 4u + i] = vec2u(halvesOf(four.xy), halvesOf(four.zw));
  }
}
