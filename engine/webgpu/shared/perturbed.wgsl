// (w + a·δ) + b·η, left to right; w itself where both coefficients are 0 (a sum would lose the sign of −0).
fn perturbed(w: f32, delta: f32, eta: f32) -> f32 {
  return select((w + params.a * delta) + params.b * eta, w, params.a == 0.0 && params.b == 0.0);
}
