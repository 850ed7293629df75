// rmsNorm    y[r, :] = x[r, :] · weight · inverseRms[r];   inverseRms[r] = 1 / sqrt(mean(x[r, :]²) + eps)
// Work       one invocation a row, columns ascending.
// Memory     x is read twice (the second time from cache), y written once; 4 bytes a row for inverseRms. Bandwidth-bound.
// Precision  one f32 sum by fma.
// Chosen     on software drivers.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> inverseRms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows) { return; }
  let first = row * params.width;
  var squares = 0.0;
  for (var c = 0u; c < params.width; c++) {
    let value = x[params.xBase + first + c];
    squares = fma(value, value, squares);
  }
  let r = 1.0 / sqrt(squares / f32(params.width) + params.eps);
  inverseRms[params.inverseRmsBase + row] = r;
  for (var c = 0u; c < params.width; c++) {
    y[params.yBase + first + c] = x[params.xBase + first + c] * r * weight[params.weightBase + c];
  }
}
