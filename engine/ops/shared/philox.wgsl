// Philox 4×32-10: four words per counter under a key. Integers only, so the words are the same on every machine.
// Source: Salmon, Moraes, Dror & Shaw 2011.
const philoxKeyStep = vec2u(0x9e3779b9u, 0xbb67ae85u);

// The rounds are written out: SwiftShader, which unrolls no loop, needs a third less time for them.
fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = twoRounds(counter, key);
  c = twoRounds(c, key + 2u * philoxKeyStep);
  c = twoRounds(c, key + 4u * philoxKeyStep);
  c = twoRounds(c, key + 6u * philoxKeyStep);
  return twoRounds(c, key + 8u * philoxKeyStep);
}

fn twoRounds(counter: vec4u, key: vec2u) -> vec4u {
  return philoxRound(philoxRound(counter, key), key + philoxKeyStep);
}

fn philoxRound(c: vec4u, key: vec2u) -> vec4u {
  return vec4u(
    highProduct(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,
    highProduct(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x);
}

// The upper half of a · b in 64 bits, from products of 16-bit halves, none of which overflows with its carry.
fn highProduct(a: u32, b: u32) -> u32 {
  let middle = (a & 0xffffu) * (b >> 16u) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
  let other = (a >> 16u) * (b & 0xffffu) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}
