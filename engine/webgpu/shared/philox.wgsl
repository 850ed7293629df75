// Philox 4×32-10 (Salmon et al. 2011), in Random123's order of words. WGSL has no 32 × 32 → 64 product, so it is put together
// from 16-bit halves.
fn wideProduct(a: u32, b: u32) -> vec2u {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let low = a0 * b0;
  let middle = a1 * b0 + (low >> 16u);
  let cross = a0 * b1 + (middle & 0xffffu);
  return vec2u(a1 * b1 + (middle >> 16u) + (cross >> 16u), a * b);
}

fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let p = wideProduct(c.x, 0xd2511f53u);
    let q = wideProduct(c.z, 0xcd9e8d57u);
    c = vec4u(q.x ^ c.y ^ k.x, q.y, p.x ^ c.w ^ k.y, p.y);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
