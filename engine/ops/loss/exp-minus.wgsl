// e^x − 1 and e^x − 1 − x without cancellation near 0. Below ½ a Taylor series, whose nine terms leave an error below 1e-8 of the
// result. Above, the subtracted part is smaller than the result or of its size.
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
