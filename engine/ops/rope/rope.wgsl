// rope       y[i] = x[i]·cos − x[i+D/2]·sin,  y[i+D/2] = x[i+D/2]·cos + x[i]·sin  (+ y if addToY);  sin · direction
// Work       an invocation processes ROUNDS vectors of WIDTH pairs (work-split.ts).
// Constants  Vector: vec4f | f32, of WIDTH numbers.
// Memory     x read once, y written once, tables from cache. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<Vector>;
@group(0) @binding(1) var<storage, read> cos: array<Vector>;
@group(0) @binding(2) var<storage, read> sin: array<Vector>;
@group(0) @binding(3) var<storage, read_write> y: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.heads * params.half / WIDTH);
  for (var pair = first; pair < end; pair += 64u) {
    let half = params.half / WIDTH;
    let i = pair % half;
    let vector = pair / half;
    let angle = vector / params.heads * half + i;
    let low = vector * 2u * half + i;
    let c = cos[params.cosBase / WIDTH + angle];
    let s = sin[params.sinBase / WIDTH + angle] * params.direction;
    let a = x[params.xBase / WIDTH + low];
    let b = x[params.xBase / WIDTH + low + half];
    let place = params.yBase / WIDTH + low;
    let beforeLow = select(Vector(), y[place], params.addToY != 0u);
    let beforeHigh = select(Vector(), y[place + half], params.addToY != 0u);
    y[place] = beforeLow + (a * c - b * s);
    y[place + half] = beforeHigh + (b * c + a * s);
  }
}
