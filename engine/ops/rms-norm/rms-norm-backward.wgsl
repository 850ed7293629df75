// rmsNormBackward  dx = r · (dy·w − x · r² · mean(dy·w·x)),  r = inverseRms
// Work             one invocation per row, columns ascending, WIDTH at a time (in-order.wgsl).
// Memory           dy and x are read twice (the second time from cache), dx written once. Bandwidth-bound.
// Chosen           on software drivers; in fours if the row length is a multiple of four.
@group(0) @binding(0) var<storage, read> dy: array<Vector>;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> weight: array<Vector>;
@group(0) @binding(3) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows) { return; }
  let width = params.width / WIDTH;
  let dyStart = params.dyBase / WIDTH + row * width;
  let xStart = params.xBase / WIDTH + row * width;
  let dxStart = params.dxBase / WIDTH + row * width;
  let weightStart = params.weightBase / WIDTH;
  var dot = 0.0;
  for (var c = 0u; c < width; c++) { dot = addProducts(dy[dyStart + c] * weight[weightStart + c], x[xStart + c], dot); }
  let r = inverseRms[params.inverseRmsBase + row];
  let share = r * r * dot / f32(params.width);
  for (var c = 0u; c < width; c++) {
    let before = select(Vector(), dx[dxStart + c], params.addToDx != 0u);
    dx[dxStart + c] = before + r * (dy[dyStart + c] * weight[weightStart + c] - x[xStart + c] * share);
  }
}
