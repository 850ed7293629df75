/**
 * Two numbers as f16 in a word, as halvesOf has them; but numbers that f16 does not hold become NaN. A key of −∞ would only be
 * ignored by a softmax; a NaN reaches the logits, where it is reported.
 */
fn keptHalvesOf(pair: vec2f) -> u32 {
  let halves = halvesOf(pair);
  let isInfinite = (vec2u(halves, halves >> 16u) & vec2u(0x7fffu)) == vec2u(0x7c00u);
  return halves | select(0u, 0x0200u, isInfinite.x) | select(0u, 0x02000000u, isInfinite.y);
}
