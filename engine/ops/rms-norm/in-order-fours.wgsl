// A sum of products that goes on number by number, in the order of columns: vectors of four, to the bits of in-order.wgsl.
alias Vector = vec4f;
const WIDTH = 4u;
fn addProducts(a: Vector, b: Vector, sum: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
