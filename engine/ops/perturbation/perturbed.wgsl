// (w + a·δ) + b·η, left to right, each step rounded once. A coefficient of 0 leaves w as it is: adding 0 would lose the sign of
// −0. Each step is an fma, so that every kernel rounds alike.
fn perturbed(w: f32, delta: f32, eta: f32, a: f32, b: f32) -> f32 {
  let first = select(fma(a, delta, w), w, a == 0.0);
  return select(fma(b, eta, first), first, b == 0.0);
}
