// A sum of products in the order of columns, number by number: for vectors of four, to the same bits as in-order.wgsl.
alias Vector = vec4f;
const WIDTH = 4u;
fn addProducts(a: Vector, b: Vector, sum: f32) -> f32 {
  return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
