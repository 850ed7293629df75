// normals    y[e] = normal number e of the stream (key, name): the words of counter [e >> 2, e >> 34, name] give four of them
// Work       one invocation per four elements; four that a segment boundary cuts are drawn on both sides.
// Memory     y written once. Arithmetic-bound: ten Philox rounds and two Box–Muller pairs for four elements.
// Precision  4e-6 of float64.
@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  let count = params.rows * params.rowSize;
  let quad = quadOfRow(params.rowsStart, params.rowSize, i);
  if (4u * i >= quad.z + count) { return; }
  let values = directionNormals(quad.xy, vec2u(params.key0, params.key1), vec2u(params.name0, params.name1));
  let at = 4u * i - quad.z; // wraps around before the cell's first element
  if (at < count && at + 3u < count) {
    /* @unroll */ for (var k = 0u; k < 4u; k++) { y[params.yBase + at + k] = values[k]; }
    return;
  }
  for (var k = 0u; k < 4u; k++) {
    if (at + k < count) { y[params.yBase + at + k] = values[k]; }
  }
}
