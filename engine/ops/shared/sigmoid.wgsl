// 1 / (1 + e^(−x)) without overflow: only e^(−|x|) is computed.
fn sigmoid(x: Vector) -> Vector {
  let e = exp(-abs(x));
  return select(e, Vector(1.0), x >= Vector()) / (1.0 + e);
}
