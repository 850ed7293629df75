// repeatSlots  keys[targets[c], :] = keys[sources[c], :];   values[targets[c], :] = values[sources[c], :]
// Work         an invocation copies ROUNDS vectors of WIDTH words of keys and of values, RUN neighbours of a slot at a time (work-split.ts).
//              A word is one number in f32, two in f16: params.rowWords of them in a slot.
// Constants    Vector: vec4u | u32, of WIDTH words; RUN: 1 | 4.
// Memory       keys and values of a copy read once and written once. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> sources: array<u32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<Vector>;
@group(0) @binding(3) var<storage, read_write> values: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let width = params.rowWords / WIDTH;
  let numbers = params.rowSize / width; // in a vector
  let keysStart = params.keysBase / numbers;
  let valuesStart = params.valuesBase / numbers;
  let start = flatWorkgroup(group, groups) * 64u * ROUNDS;
  let end = min(start + 64u * ROUNDS, params.copies * width);
  let first = start + lane * RUN;
  // A division costs software drivers as much as the copy: the place is divided once and then moved on.
  var copy = first / width;
  var column = first % width;
  for (var i = first; i < end; i += 64u * RUN) {
    let source = sources[params.sourcesBase + copy] * width + column;
    let place = targets[params.targetsBase + copy] * width + column;
    /* @unroll */ for (var k = 0u; k < RUN; k++) {
      keys[keysStart + place + k] = keys[keysStart + source + k];
      values[valuesStart + place + k] = values[valuesStart + source + k];
    }
    column += 64u * RUN % width;
    copy += 64u * RUN / width + select(0u, 1u, column >= width);
    column -= select(0u, width, column >= width);
  }
}
