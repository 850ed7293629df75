// Philox 4×32-10: four words for each counter under a key. Integers only: the same words on every machine.
// Source: Salmon, Moraes, Dror & Shaw 2011.
fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let first = wideProduct(0xd2511f53u, c.x);
    let second = wideProduct(0xcd9e8d57u, c.z);
    c = vec4u(second.y ^ c.y ^ k.x, second.x, first.y ^ c.w ^ k.y, first.x);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// a · b in 64 bits, (low, high). WGSL has no such product: it is put together from four of 16-bit halves, none of which
// overflows with its carry.
fn wideProduct(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a & 0xffffu) * (b >> 16u) + (low >> 16u);
  let other = (a >> 16u) * (b & 0xffffu) + (middle & 0xffffu);
  return vec2u((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

// a + b in 64 bits, (low, high).
fn wideSum(a: vec2u, b: u32) -> vec2u {
  let low = a.x + b;
  return vec2u(low, a.y + select(0u, 1u, low < b));
}
