// Exponential, Gumbel and normal variates of 32-bit words, within 4e-6 of float64 for every word.
//
// A driver's log, sin and cos may have a larger error than that. So these are minimax polynomials, on reduced arguments that are
// exact or rounded once. WGSL rounds a single + − × of f32 correctly, but a compiler may reassociate several (it turns
// (x + c) − c into x), so no step relies on the rounding error of a sum. fma may round once or twice. A u32 becomes one of its two
// neighbours in f32. inverseSqrt has an error of 2 ULP; a Newton step follows it. sqrt and / have larger errors and are not
// used. Every product with a sum is written as an fma, so that compilers make the same choice in every kernel.

// ln(1 + f) for f in [√½ − 1, √2 − 1]; off by 6e-9 of itself before rounding.
fn logOnePlus(f: f32, exponent: f32) -> f32 {
  var p = fma(f, -0.076344952, 0.127615750);
  p = fma(f, p, -0.131601825);
  p = fma(f, p, 0.142017588);
  p = fma(f, p, -0.166233569);
  p = fma(f, p, 0.200012267);
  p = fma(f, p, -0.250008196);
  p = fma(f, p, 0.333333313);
  // Small terms first. The large part of ln 2 has nine bits: its product with the exponent is exact.
  let square = f * f;
  let rest = fma(exponent, -2.12194440e-4, fma(-0.5, square, square * f * p));
  return fma(exponent, 0.693359375, f + rest);
}

// A positive normal number as (m − 1, e) with x = m·2ᵉ and m in [√½, √2): exact.
fn reduced(x: f32) -> vec2f {
  let bits = bitcast<u32>(x) + (0x3f800000u - 0x3f3504f3u);
  let mantissa = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u);
  return vec2f(mantissa - 1.0, f32(bits >> 23u) - 127.0);
}

// E(x) = −ln((x + ½)·2⁻³²). From 2³¹ on it is −ln(1 − t) with t = (~x + ½)·2⁻³², the distance to the upper end.
fn exponential(word: u32) -> f32 {
  let isUpper = word >= 0x80000000u;
  let distance = f32(select(word, ~word, isUpper)) + 0.5; // · 2⁻³²
  let lower = reduced(distance) - vec2f(0.0, 32.0);
  let near = vec2f(-0x1p-32 * distance, 0.0);             // 1 − t itself
  let far = vec2f(fma(-0x1p-31, distance, 1.0), -1.0);    // 2·(1 − t), where 1 − t is below √½
  let upper = select(near, far, distance > 1257966796.0);
  let argument = select(lower, upper, isUpper);
  return -logOnePlus(argument.x, argument.y);
}

// −ln E(x)
fn gumbel(word: u32) -> f32 {
  let argument = reduced(exponential(word));
  return -logOnePlus(argument.x, argument.y);
}

// √(2E(x))·(cos, sin)(2π(angle + ½)·2⁻³²)
fn normalPair(word: u32, angle: u32) -> vec2f {
  let square = 2.0 * exponential(word);
  let inverse = inverseSqrt(square);
  let root = square * inverse;
  let radius = fma(fma(-root, root, square), 0.5 * inverse, root);

  // The nearest quarter turn; the rest is at most an eighth of a turn to either side.
  let quarter = (angle + 0x20000000u) >> 30u;
  let theta = (f32(bitcast<i32>(angle - (quarter << 30u))) + 0.5) * 1.46291807927e-9; // 2π·2⁻³²
  let z = theta * theta;
  let sine = fma(theta * z, fma(z, fma(z, -1.95172994e-4, 8.33217800e-3), -0.166666552), theta);
  let cosine = fma(z, fma(z, fma(z, fma(z, 2.44384519e-5, -1.38873677e-3), 4.16666456e-2), -0.5), 1.0);
  let isOdd = (quarter & 1u) == 1u;
  let x = select(cosine, sine, isOdd);
  let y = select(sine, cosine, isOdd);
  return radius * vec2f(select(x, -x, ((quarter + 1u) & 2u) != 0u), select(y, -y, (quarter & 2u) != 0u));
}

// Four standard normals of four words.
fn normals(words: vec4u) -> vec4f {
  return vec4f(normalPair(words.x, words.y), normalPair(words.z, words.w));
}
