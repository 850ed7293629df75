// accumulate  y[i] = factor · x[i]  (+ y[i] where addToY)
// Work        one invocation an element.
// Memory      x read once, y read where added to, written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  let before = select(0.0, y[params.yBase + i], params.addToY != 0u);
  y[params.yBase + i] = before + params.factor * x[params.xBase + i];
}
