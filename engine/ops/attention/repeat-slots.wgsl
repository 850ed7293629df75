// repeatSlots  keys[targets[c], :] = keys[sources[c], :];   values[targets[c], :] = values[sources[c], :]
// Work         an invocation copies ROUNDS words of keys and of values, one workgroup width apart (work-split.ts). A word is one
//              number in f32, two in f16: params.rowWords of them in a slot.
// Memory       keys and values of a copy read once and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> sources: array<u32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let width = params.rowWords;
  let words = params.rowSize / width; // numbers in a word
  let keysStart = params.keysBase / words;
  let valuesStart = params.valuesBase / words;
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.copies * width);
  for (var i = first; i < end; i += 64u) {
    let copy = i / width;
    let source = sources[params.sourcesBase + copy] * width + i % width;
    let place = targets[params.targetsBase + copy] * width + i % width;
    keys[keysStart + place] = keys[keysStart + source];
    values[valuesStart + place] = values[valuesStart + source];
  }
}
