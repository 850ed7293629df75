// The tree's results in f16, two columns in a word. `at`, `xAt` and `weightAt` count elements; `at` is even.
const COLUMNS = 2u;
fn storeColumns(at: u32, xAt: u32, weightAt: u32, r: f32) {
  let value = vec2f(x[xAt] * r * weight[weightAt], x[xAt + 1u] * r * weight[weightAt + 1u]);
  y[at / 2u] = halvesOf(value);
}
