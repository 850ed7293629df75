// toHalf     half[i] = x[i] in f16, rounded to nearest; ±∞ if x[i] is not finite, NaN included
// Work       one invocation per word of two elements. Tensors may be cut anywhere, so one half of a word may belong to another
//            cell; that half is kept.
// Memory     x read once, half written once: 6 bytes per element. Bandwidth-bound.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> half: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let word = params.halfBase / 2u + flatWorkgroup(group, groups) * 64u + lane;
  let count = params.rows * params.rowSize;
  let low = 2u * word - params.halfBase; // wraps around where the first half is another cell's
  let high = low + 1u;
  if (low >= count && high >= count) { return; }
  let own = halvesOf(vec2f(x[params.xBase + min(low, count - 1u)], x[params.xBase + min(high, count - 1u)]));
  let mask = select(0u, 0xffffu, low < count) | select(0u, 0xffff0000u, high < count);
  half[word] = (own & mask) | (half[word] & ~mask);
}
