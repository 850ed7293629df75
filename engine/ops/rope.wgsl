// rope      y[i] = x[i]·cos − x[i+D/2]·sin,  y[i+D/2] = x[i+D/2]·cos + x[i]·sin  (+ y where addToY);  sin · direction
// Work      one invocation a pair.
// Memory    x read once, y written once, tables from cache. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cos: array<f32>;
@group(0) @binding(2) var<storage, read> sin: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = flatWorkgroup(group, groups) * 256u + lane;
  if (pair >= params.rows * params.heads * params.half) { return; }
  let i = pair % params.half;
  let vector = pair / params.half;
  let token = vector / params.heads;
  let low = vector * 2u * params.half + i;
  let high = low + params.half;
  let c = cos[params.cosBase + token * params.half + i];
  let s = sin[params.sinBase + token * params.half + i] * params.direction;
  let a = x[params.xBase + low];
  let b = x[params.xBase + high];
  let beforeLow = select(0.0, y[params.yBase + low], params.addToY != 0u);
  let beforeHigh = select(0.0, y[params.yBase + high], params.addToY != 0u);
  y[params.yBase + low] = beforeLow + (a * c - b * s);
  y[params.yBase + high] = beforeHigh + (b * c + a * s);
}
