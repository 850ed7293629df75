// e^x − 1 and e^x − 1 − x without the cancellation near 0. Taylor series below ½, where nine terms leave less than 1e-8 of
// the result; beyond, what is taken off is less than the result or of its size.
fn expMinusOne(x: f32) -> f32 {
  if (abs(x) >= 0.5) { return exp(x) - 1.0; }
  return x + expMinusOneMinusX(x);
}

fn expMinusOneMinusX(x: f32) -> f32 {
  if (abs(x) >= 0.5) { return exp(x) - 1.0 - x; }
  var series = 1.0;
  for (var n = 9.0; n > 2.0; n -= 1.0) { series = 1.0 + series * x / n; }
  return 0.5 * x * x * series;
}
