// dy rounded to f16, as products read it: so the gradient of a token's only score is exactly 0.
fn upstreamOf(given: Vector) -> Vector {
  var rounded = given;
  for (var i = 0u; i < WIDTH; i += 2u) {
    let pair = unpack2x16float(halvesOf(vec2f(given[i], given[i + 1u])));
    rounded[i] = pair.x;
    rounded[i + 1u] = pair.y;
  }
  return rounded;
}
