// A sum of products in the order of columns, number by number: for vectors of one number.
alias Vector = f32;
const WIDTH = 1u;
fn addProducts(a: Vector, b: Vector, sum: f32) -> f32 {
  return fma(a, b, sum);
}
