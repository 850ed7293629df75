// appendToHalfCache  keys[slots[t], :] = k[t, :] in f16;   values[slots[t], :] = v[t, :] in f16
// Work               an invocation processes ROUNDS pairs of numbers of k and v (work-split.ts). Tokens whose slot lies in another
//                    cell are skipped.
// Memory             k and v read once, half as many bytes written. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> k: array<vec2f>;
@group(0) @binding(1) var<storage, read> v: array<vec2f>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> values: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let width = params.rowSize / 2u;
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.tokens * width);
  for (var i = first; i < end; i += 64u) {
    let slot = slots[params.slotsBase + i / width] - params.cacheStart; // wraps around below the cell
    if (slot >= params.cache) { continue; }
    let place = slot * width + i % width;
    keys[params.keysBase / 2u + place] = keptHalvesOf(k[params.kBase / 2u + i]);
    values[params.valuesBase / 2u + place] = keptHalvesOf(v[params.vBase / 2u + i]);
  }
}
