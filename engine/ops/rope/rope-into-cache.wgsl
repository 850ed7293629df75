// ropeIntoCache  q[t] = rope(q[t]) in place,  keys[slots[t]] = rope(k[t]),  values[slots[t]] = v[t]  (rope.wgsl has the formula)
// Work           an invocation processes ROUNDS vectors of WIDTH pairs (work-split.ts): of a token's heads of q, then of k, then of v.
//                Keys and values whose slot lies in another cell of the cache are skipped; the first cell does q.
// Constants      Vector: vec4f | f32, of WIDTH numbers.
// Memory         q, k and v read once and written once, tables from cache. Bandwidth-bound.
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
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.tokens * heads * half);
  for (var pair = first; pair < end; pair += 64u) {
    let i = pair % half;
    let head = pair / half % heads;
    let token = pair / half / heads;
    let c = cos[params.cosBase / WIDTH + token * half + i];
    let s = sin[params.sinBase / WIDTH + token * half + i];
    if (head < params.heads) {
      if (params.cacheStart != 0u) { continue; }
      let low = params.qBase / WIDTH + (token * params.heads + head) * 2u * half + i;
      let a = q[low];
      let b = q[low + half];
      q[low] = a * c - b * s;
      q[low + half] = b * c + a * s;
      continue;
    }
    let slot = slots[params.slotsBase + token] - params.cacheStart; // wraps around below the cell
    if (slot >= params.cache) { continue; }
    let isKey = head < params.heads + params.keyHeads;
    let keyHead = select(head - params.heads - params.keyHeads, head - params.heads, isKey);
    let source = (token * params.keyHeads + keyHead) * 2u * half + i;
    let place = (slot * params.keyHeads + keyHead) * 2u * half + i;
    if (isKey) {
      let a = k[params.kBase / WIDTH + source];
      let b = k[params.kBase / WIDTH + source + half];
      keys[params.keysBase / WIDTH + place] = a * c - b * s;
      keys[params.keysBase / WIDTH + place + half] = b * c + a * s;
    } else {
      values[params.valuesBase / WIDTH + place] = v[params.vBase / WIDTH + source];
      values[params.valuesBase / WIDTH + place + half] = v[params.vBase / WIDTH + source + half];
    }
  }
}
