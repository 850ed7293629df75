// ropePair   rope of the heads of q and of k in one dispatch (rope.wgsl has the formula); sin · direction
// Work       an invocation processes WIDTH pairs of HEADS heads of a token: of q, then of k. Each kind has its own loop: a software driver
//            executes all branches of a loop for all lanes.
// Constants  Vector: vec4f | f32, of WIDTH numbers. HEADS: 1 on GPUs, all on software drivers.
// Memory     q and k read once, their results written once, tables once for HEADS heads. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> k: array<Vector>;
@group(0) @binding(2) var<storage, read> cos: array<Vector>;
@group(0) @binding(3) var<storage, read> sin: array<Vector>;
@group(0) @binding(4) var<storage, read_write> rotatedQ: array<Vector>;
@group(0) @binding(5) var<storage, read_write> rotatedK: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let half = params.half / WIDTH;
  let heads = params.heads + params.keyHeads;
  let parts = (heads - 1u) / HEADS + 1u;
  let item = flatWorkgroup(group, groups) * 64u + lane;
  let token = item / half / parts;
  if (token >= params.rows) { return; }
  let i = item % half;
  let first = item / half % parts * HEADS;
  let end = min(first + HEADS, heads);
  let c = cos[params.cosBase / WIDTH + token * half + i];
  let s = sin[params.sinBase / WIDTH + token * half + i] * params.direction;
  for (var head = first; head < min(end, params.heads); head++) {
    let low = (token * params.heads + head) * 2u * half + i;
    let a = q[params.qBase / WIDTH + low];
    let b = q[params.qBase / WIDTH + low + half];
    let place = params.rotatedQBase / WIDTH + low;
    let beforeLow = select(Vector(), rotatedQ[place], params.addToRotatedQ != 0u);
    let beforeHigh = select(Vector(), rotatedQ[place + half], params.addToRotatedQ != 0u);
    rotatedQ[place] = beforeLow + (a * c - b * s);
    rotatedQ[place + half] = beforeHigh + (b * c + a * s);
  }
  for (var head = max(first, params.heads); head < end; head++) {
    let low = (token * params.keyHeads + head - params.heads) * 2u * half + i;
    let a = k[params.kBase / WIDTH + low];
    let b = k[params.kBase / WIDTH + low + half];
    let place = params.rotatedKBase / WIDTH + low;
    let beforeLow = select(Vector(), rotatedK[place], params.addToRotatedK != 0u);
    let beforeHigh = select(Vector(), rotatedK[place + half], params.addToRotatedK != 0u);
    rotatedK[place] = beforeLow + (a * c - b * s);
    rotatedK[place + half] = beforeHigh + (b * c + a * s);
  }
}
