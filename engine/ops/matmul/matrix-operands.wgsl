// Eight neighbouring halves from any element on, one at a time. Those past `count` are 0 and are not read.
fn leftEight(at: u32, count: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  for (var i = 0u; i < min(count, 8u); i++) { words[i / 2u] |= leftHalf(at + i) << (16u * (i % 2u)); }
  return words;
}
fn rightEight(at: u32, count: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  for (var i = 0u; i < min(count, 8u); i++) { words[i / 2u] |= rightHalf(at + i) << (16u * (i % 2u)); }
  return words;
}
fn leftHalf(at: u32) -> u32 { return (left[at / 2u] >> (16u * (at % 2u))) & 0xffffu; }
fn rightHalf(at: u32) -> u32 { return (right[at / 2u] >> (16u * (at % 2u))) & 0xffffu; }
