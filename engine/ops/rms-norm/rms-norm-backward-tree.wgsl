// rmsNormBackward  dx = r · (dy·w − x · r² · mean(dy·w·x)),  r = inverseRms
// Work             one workgroup per row; each of LANES invocations takes every LANES-th column.
// Constants        LANES: power of two, at most 256.
// Memory           dy and x are read twice (the second time from cache), dx written once. Bandwidth-bound.
// Chosen           on GPUs.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  let width = select(0u, params.width, row < params.rows);
  let first = row * params.width;
  var dot = 0.0;
  for (var c = lane; c < width; c += LANES) {
    dot = fma(dy[params.dyBase + first + c] * weight[params.weightBase + c], x[params.xBase + first + c], dot);
  }
  let r = inverseRms[params.inverseRmsBase + min(row, params.rows - 1u)];
  let share = r * r * treeSum(lane, dot) / f32(params.width);
  for (var c = lane; c < width; c += LANES) {
    let i = params.dxBase + first + c;
    let before = select(0.0, dx[i], params.addToDx != 0u);
    dx[i] = before + r * (dy[params.dyBase + first + c] * weight[params.weightBase + c] - x[params.xBase + first + c] * share);
  }
}
