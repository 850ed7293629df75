// softmaxBackward  softmax: dx = y · (dy − Σ dy·y);  log-softmax: dx = dy − e^y · Σ dy
// Work             one invocation per row, columns ascending.
// Memory           dy and y are read twice (the second time from cache), dx written once.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups) * 64u + lane;
  if (row >= params.rows * params.inner) { return; }
  let first = row * params.width;
  let isLog = params.isLog != 0u;
  var sum = 0.0;
  for (var v = 0u; v < params.width; v++) {
    sum += dy[params.dyBase + first + v] * select(y[params.yBase + first + v], 1.0, isLog);
  }
  for (var v = 0u; v < params.width; v++) {
    let upstream = dy[params.dyBase + first + v];
    let value = y[params.yBase + first + v];
    let gradient = select(value * (upstream - sum), upstream - exp(value) * sum, isLog);
    let before = select(0.0, dx[params.dxBase + first + v], params.addToDx != 0u);
    dx[params.dxBase + first + v] = before + gradient;
  }
}
