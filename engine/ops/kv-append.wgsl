// appendToCache  keys[slots[t], :] = k[t, :];   values[slots[t], :] = v[t, :]
// Work           one invocation a number of k and v. Tokens whose slot lies in another cell are skipped.
// Memory         k and v read once and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.tokens * params.rowSize) { return; }
  let slot = slots[params.slotsBase + i / params.rowSize];
  if (slot < params.cacheStart || slot - params.cacheStart >= params.cache) { return; }
  let place = (slot - params.cacheStart) * params.rowSize + i % params.rowSize;
  keys[params.keysBase + place] = k[params.kBase + i];
  values[params.valuesBase + place] = v[params.vBase + i];
}
