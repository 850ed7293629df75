/**
 * Two numbers as f16 in a word, the first in its low half, rounded to nearest. WGSL does not define the result for numbers past
 * the largest f16, 65504. Here they overflow, so that loss scaling finds them; numbers that are not finite become infinite too.
 */
fn halvesOf(pair: vec2f) -> u32 {
  let bits = bitcast<vec2u>(pair);
  let isLarge = (bits & vec2u(0x7fffffffu)) >= vec2u(0x477ff000u); // 65520, from where on rounding overflows
  let infinite = ((bits >> vec2u(16u)) & vec2u(0x8000u)) | vec2u(0x7c00u);
  let packed = pack2x16float(select(pair, vec2f(), isLarge));
  let halves = select(vec2u(packed & 0xffffu, packed >> 16u), infinite, isLarge);
  return halves.x | (halves.y << 16u);
}
