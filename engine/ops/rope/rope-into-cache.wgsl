// ropeIntoCache  q[t] = rope(q[t]) in place,  keys[slots[t]] = rope(k[t]),  values[slots[t]] = v[t]  (rope.wgsl has the formula)
// Work           an invocation processes WIDTH pairs of HEADS heads of a token: of q, then of k, then of v. Keys and values whose slot
//                lies in another cell of the cache are skipped; the first cell does q. Each kind of heads has its own loop: a software
//                driver executes all branches of a loop for all lanes.
// Constants      Vector: vec4f | f32, of WIDTH numbers. HEADS: 1 on GPUs, all on software drivers.
// Memory         q, k and v read once and written once, tables once for HEADS heads. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> q: array<Vector>;
@group(0) @binding(1) var<storage, read> k: array<Vector>;
@group(0) @binding(2) var<storage, read> v: array<Vector>;
@group(0) @binding(3) var<storage, read> cos: array<Vector>;
@group(0) @binding(4) var<storage, read> sin: array<Vector>;
@group(0) @binding(5) var<storage, read> slots: array<u32>;
@group(0) @binding(6) var<storage, read_write> keys: array<Vector>;
@group(0) @binding(7) var<storage, read_write> values: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let half = params.half / WIDTH;
  let heads = params.heads + 2u * params.keyHeads;
  let parts = (heads - 1u) / HEADS + 1u;
  let item = flatWorkgroup(group, groups) * 64u + lane;
  let token = item / half / parts;
  if (token >= params.tokens) { return; }
  let i = item % half;
  let first = item / half % parts * HEADS;
  let end = min(first + HEADS, heads);
  let c = cos[params.cosBase / WIDTH + token * half + i];
  let s = sin[params.sinBase / WIDTH + token * half + i];
  let endOfQ = select(0u, min(end, params.heads), params.cacheStart == 0u);
  for (var head = first; head < endOfQ; head++) {
    let low = params.qBase / WIDTH + (token * params.heads + head) * 2u * half + i;
    let a = q[low];
    let b = q[low + half];
    q[low] = a * c - b * s;
    q[low + half] = b * c + a * s;
  }
  let slot = slots[params.slotsBase + token] - params.cacheStart; // wraps around below the cell
  if (slot >= params.cache) { return; }
  let startOfV = params.heads + params.keyHeads;
  for (var head = max(first, params.heads); head < min(end, startOfV); head++) {
    let source = params.kBase / WIDTH + (token * params.keyHeads + head - params.heads) * 2u * half + i;
    let place = params.keysBase / WIDTH + (slot * params.keyHeads + head - params.heads) * 2u * half + i;
    let a = k[source];
    let b = k[source + half];
    keys[place] = a * c - b * s;
    keys[place + half] = b * c + a * s;
  }
  for (var head = max(first, startOfV); head < end; head++) {
    let source = params.vBase / WIDTH + (token * params.keyHeads + head - startOfV) * 2u * half + i;
    let place = params.valuesBase / WIDTH + (slot * params.keyHeads + head - startOfV) * 2u * half + i;
    values[place] = v[source];
    values[place + half] = v[source + half];
  }
}
