// normals    y[e] = normal number e of the stream (key, name): four of them from the words of counter [e >> 2, 0, name]
// Work       one invocation a quad of elements; a quad that a segment boundary cuts is drawn on both sides.
// Memory     y written once. Arithmetic-bound: ten Philox rounds and two Box–Muller pairs a quad.
@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = params.rowsStart * params.rowSize;
  let end = first + params.rows * params.rowSize;
  let quad = first / 4u + flatWorkgroup(group, groups) * 64u + lane;
  if (quad * 4u >= end) { return; }
  let values = normals(philox(vec4u(quad, 0u, params.name0, params.name1), vec2u(params.key0, params.key1)));
  for (var j = 0u; j < 4u; j++) {
    let element = quad * 4u + j;
    if (element >= first && element < end) { y[params.yBase + element - first] = values[j]; }
  }
}
