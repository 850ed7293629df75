// weighedBackward  dx = s · w · dy + 2 · x · w · dz;  dw = s · x · dy + x² · dz,  s = sign(x) where isAbsolute, else 1;
//                  dx is off by a thousandth at element `wrong`
// Work             one invocation an element. For tests of checkOp.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> dz: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 64u + lane;
  if (i >= params.rows * params.rowSize) { return; }
  let a = x[params.xBase + i];
  let b = w[params.wBase + i];
  let s = select(1.0, sign(a), params.isAbsolute != 0u);
  let error = select(0.0, 1e-3, i == params.wrong);
  let xBefore = select(0.0, dx[params.dxBase + i], params.addToDx != 0u);
  let wBefore = select(0.0, dw[params.dwBase + i], params.addToDw != 0u);
  dx[params.dxBase + i] = xBefore + s * b * dy[params.dyBase + i] + 2.0 * a * b * dz[params.dzBase + i] + error;
  dw[params.dwBase + i] = wBefore + s * a * dy[params.dyBase + i] + a * a * dz[params.dzBase + i];
}
