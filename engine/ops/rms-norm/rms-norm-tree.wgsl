// rmsNorm    y[r, :] = x[r, :] · weight · inverseRms[r];   inverseRms[r] = 1 / sqrt(mean(x[r, :]²) + eps)
// Work       one workgroup per row; each of LANES invocations takes every LANES-th column.
// Constants  LANES: power of two, at most 256.
// Memory     x is read twice (the second time from cache), y written once; 4 bytes per row for inverseRms. Bandwidth-bound.
// Precision  f32 sums, tree in fixed order.
// Stored     f32, or f16 in words: see the output file in `uses`.
// Chosen     on GPUs.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;
@group(0) @binding(3) var<storage, read_write> inverseRms: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  let width = select(0u, params.width, row < params.rows);
  let first = row * params.width;
  var squares = 0.0;
  for (var c = lane; c < width; c += LANES) {
    let value = x[params.xBase + first + c];
    squares = fma(value, value, squares);
  }
  let r = 1.0 / sqrt(treeSum(lane, squares) / f32(params.width) + params.eps);
  if (lane == 0u && width > 0u) { inverseRms[params.inverseRmsBase + row] = r; }
  let weightStart = params.weightBase + slotStart(min(row, params.rows - 1u));
  for (var c = lane * COLUMNS; c < width; c += LANES * COLUMNS) {
    storeColumns(params.yBase + first + c, params.xBase + first + c, weightStart + c, r);
  }
}
