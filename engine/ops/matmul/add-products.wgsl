// A sum of products in the order of columns, four at a time: as in-order-fours of rms-norm.
fn addProducts(a: vec4f, b: vec4f, sum: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
