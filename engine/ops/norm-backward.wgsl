// rmsNormBackward  dx = r · (dy·w − x · r² · mean(dy·w·x)),  r = inverseRms
// Work             one invocation a row, columns ascending.
// Memory           dy and x are read twice (the second time from cache), dx written once. Bandwidth-bound.
// Chosen           on software drivers.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> inverseRms: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows) { return; }
  let first = row * params.width;
  var dot = 0.0;
  for (var c = 0u; c < params.width; c++) {
    dot = fma(dy[params.dyBase + first + c] * weight[params.weightBase + c], x[params.xBase + first + c], dot);
  }
  let r = inverseRms[params.inverseRmsBase + row];
  let share = r * r * dot / f32(params.width);
  for (var c = 0u; c < params.width; c++) {
    let i = params.dxBase + first + c;
    let before = select(0.0, dx[i], params.addToDx != 0u);
    dx[i] = before + r * (dy[params.dyBase + first + c] * weight[params.weightBase + c] - x[params.xBase + first + c] * share);
  }
}
