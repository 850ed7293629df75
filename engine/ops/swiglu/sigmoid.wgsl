// 1 / (1 + e^(−x)) without overflow: e is taken of −|x| only.
fn sigmoid(x: Vector) -> Vector {
  let e = exp(-abs(x));
  return select(e, Vector(1.0), x >= Vector()) / (1.0 + e);
}
