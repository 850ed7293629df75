// appendToCache  keys[slots[t], :] = k[t, :];   values[slots[t], :] = v[t, :]
// Work           an invocation processes ROUNDS vectors of WIDTH numbers of k and v (work-split.ts). Tokens whose slot lies in another
//                cell are skipped.
// Constants      Vector: vec4f | f32, of WIDTH numbers.
// Memory         k and v read once and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> k: array<Vector>;
@group(0) @binding(1) var<storage, read> v: array<Vector>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<Vector>;
@group(0) @binding(4) var<storage, read_write> values: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.tokens * params.rowSize / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let width = params.rowSize / WIDTH;
    let slot = slots[params.slotsBase + i / width] - params.cacheStart; // wraps around below the cell
    if (slot >= params.cache) { continue; }
    let place = slot * width + i % width;
    keys[params.keysBase / WIDTH + place] = k[params.kBase / WIDTH + i];
    values[params.valuesBase / WIDTH + place] = v[params.vBase / WIDTH + i];
  }
}
