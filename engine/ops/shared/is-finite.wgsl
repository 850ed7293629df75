// What a float is, from its bits: a compiler may take comparisons as if there were no NaN and no infinity.
fn isFinite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

/** NaN. WGSL refuses a constant that is none, so the bits lie in a variable. */
fn notANumber() -> f32 {
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}

fn isNaN(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}
