// ropeIntoHalfCache  the same as ropeIntoCache, but keys and values are f16: the rotated numbers, rounded
// Work               an invocation processes an item of HEADS heads of a token: a pair of numbers of a head of q, or a word of two
//                    neighbours of a head of k or v. A head has as many of one as of the other. Loops as in ropeIntoCache.
// Constants          HEADS: 1 on GPUs, all on software drivers.
// Memory             q, k and v read once (k twice, from cache), q written once, keys and values half as many bytes. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> cos: array<f32>;
@group(0) @binding(4) var<storage, read> sin: array<f32>;
@group(0) @binding(5) var<storage, read> slots: array<u32>;
@group(0) @binding(6) var<storage, read_write> keys: array<u32>;
@group(0) @binding(7) var<storage, read_write> values: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let half = params.half;
  let heads = params.heads + 2u * params.keyHeads;
  let parts = (heads - 1u) / HEADS + 1u;
  let item = flatWorkgroup(group, groups) * 64u + lane;
  let token = item / half / parts;
  if (token >= params.tokens) { return; }
  let i = item % half;
  let first = item / half % parts * HEADS;
  let end = min(first + HEADS, heads);
  let c = cos[params.cosBase + token * half + i];
  let s = sin[params.sinBase + token * half + i];
  let endOfQ = select(0u, min(end, params.heads), params.cacheStart == 0u);
  for (var head = first; head < endOfQ; head++) {
    let low = params.qBase + (token * params.heads + head) * 2u * half + i;
    let a = q[low];
    let b = q[low + half];
    q[low] = a * c - b * s;
    q[low + half] = b * c + a * s;
  }
  let slot = slots[params.slotsBase + token] - params.cacheStart; // wraps around below the cell
  if (slot >= params.cache) { return; }
  let startOfV = params.heads + params.keyHeads;
  for (var head = max(first, params.heads); head < min(end, startOfV); head++) {
    let source = (token * params.keyHeads + head - params.heads) * 2u * half;
    let place = (slot * params.keyHeads + head - params.heads) * half + i;
    let pair = vec2f(rotatedKey(token, source, 2u * i), rotatedKey(token, source, 2u * i + 1u));
    keys[params.keysBase / 2u + place] = keptHalvesOf(pair);
  }
  for (var head = max(first, startOfV); head < end; head++) {
    let at = params.vBase + (token * params.keyHeads + head - startOfV) * 2u * half + 2u * i;
    let place = (slot * params.keyHeads + head - startOfV) * half + i;
    values[params.valuesBase / 2u + place] = keptHalvesOf(vec2f(v[at], v[at + 1u]));
  }
}

/** Number `e` of a head of k that begins at `source`, rotated. */
fn rotatedKey(token: u32, source: u32, e: u32) -> f32 {
  let half = params.half;
  let i = e % half;
  let c = cos[params.cosBase + token * half + i];
  let s = sin[params.sinBase + token * half + i];
  let a = k[params.kBase + source + i];
  let b = k[params.kBase + source + i + half];
  if (e < half) { return a * c - b * s; }
  return b * c + a * s;
}
