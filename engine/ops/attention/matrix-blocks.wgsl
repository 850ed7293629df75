// Blocks of BLOCK keys of a token, counted from its first key across both of its runs of slots.

/**
 * The slots of a token's keys firstKey … firstKey + BLOCK − 1: how many of them lie in the prefix, and what slotOf adds to a key's
 * place in the block, in the prefix and in the token's own sequence. Equal for two tokens if the slots are the same.
 */
fn placeOf(span: vec4u, firstKey: u32) -> vec3u {
  let inPrefix = min(max(span.y, firstKey) - firstKey, BLOCK);
  return vec3u(inPrefix, select(0u, span.x + firstKey, inPrefix > 0u), select(0u, span.z + firstKey - span.y, inPrefix < BLOCK));
}

fn slotOf(place: vec3u, key: u32) -> u32 {
  return key + select(place.z, place.y, key < place.x);
}

/** Bit c: whether the token sees key c of the block, and its slot is one of this cell's. */
fn seenOf(span: vec4u, place: vec3u, firstKey: u32) -> u32 {
  let count = min(max(span.w, firstKey) - firstKey, BLOCK);
  if (count == 0u) { return 0u; }
  var seen = 0xffffffffu >> (32u - count);
  if (CONTINUES) {
    for (var key = 0u; key < count; key++) {
      if (slotOf(place, key) - params.slotsStart >= params.slots) { seen &= ~(1u << key); }
    }
  }
  return seen;
}
