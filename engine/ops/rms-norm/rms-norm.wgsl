// rmsNorm    y[r, :] = x[r, :] · weight · inverseRms[r];   inverseRms[r] = 1 / sqrt(mean(x[r, :]²) + eps)
// Work       one invocation per row, columns ascending, WIDTH at a time (in-order.wgsl).
// Memory     x is read twice (the second time from cache), y written once; 4 bytes per row for inverseRms. Bandwidth-bound.
// Precision  one f32 sum by fma.
// Stored     f32, or f16 in words: see the output file in `uses`.
// Chosen     on software drivers; in fours if the row length is a multiple of four.
@group(0) @binding(0) var<storage, read> x: array<Vector>;
@group(0) @binding(1) var<storage, read> weight: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;
@group(0) @binding(3) var<storage, read_write> inverseRms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows) { return; }
  let width = params.width / WIDTH;
  let xStart = params.xBase / WIDTH + row * width;
  let yStart = params.yBase / WIDTH + row * width;
  let weightStart = (params.weightBase + slotStart(row)) / WIDTH;
  var squares = 0.0;
  for (var c = 0u; c < width; c++) {
    let value = x[xStart + c];
    squares = addProducts(value, value, squares);
  }
  let r = 1.0 / sqrt(squares / f32(params.width) + params.eps);
  inverseRms[params.inverseRmsBase + row] = r;
  for (var c = 0u; c < width; c++) { storeOutput(yStart + c, x[xStart + c] * r * weight[weightStart + c]); }
}
