// Exponentials, Gumbels and normals of words. WGSL's own log, sin and cos may differ by 1e-3 between drivers; here are
// polynomials, of +, ×, fma, / and sqrt alone, within 4e-6 of float64 for every word (test/engine/ops/random.test.ts).

// ln x for normal x > 0: x = 2^e · m with m in [√½, √2), ln m = 2 atanh(s), s = (m − 1)/(m + 1), |s| < 0.172.
fn naturalLog(x: f32) -> f32 {
  let bits = bitcast<u32>(x) + (0x3f800000u - 0x3f3504f3u);
  let e = f32(i32(bits >> 23u) - 127);
  let m = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u);
  let s = (m - 1.0) / (m + 1.0);
  let z = s * s;
  let series = fma(z, fma(z, fma(z, fma(z, 0.11111111, 0.14285715), 0.2), 0.33333334), 1.0);
  // e · ln 2 in two parts, the first exact in f32.
  return fma(e, 0.693359375, fma(e, -2.1219444e-4, 2.0 * s * series));
}

// −ln(1 − u) for u in (0, ½]: 2 atanh(s), s = u/(2 − u) ≤ ⅓.
fn minusLogOneMinus(u: f32) -> f32 {
  let s = u / (2.0 - u);
  let z = s * s;
  let high = fma(z, fma(z, fma(z, 0.06666667, 0.07692308), 0.09090909), 0.11111111);
  let series = fma(z, fma(z, fma(z, fma(z, high, 0.14285715), 0.2), 0.33333334), 1.0);
  return 2.0 * s * series;
}

// E(x) = −ln((x + ½)·2⁻³²)
fn exponential(word: u32) -> f32 {
  let small = fma(32.0, 0.693359375, fma(32.0, -2.1219444e-4, -naturalLog(f32(word) + 0.5)));
  let large = minusLogOneMinus((f32(~word) + 0.5) * 2.3283064e-10);
  return select(small, large, word >= 0x80000000u);
}

// −ln E(x)
fn gumbel(word: u32) -> f32 {
  return -naturalLog(exponential(word));
}

// (cos, sin) of 2π(x + ½)·2⁻³²: the nearest quarter turn is taken off in integers, the rest is within ±π/4.
fn unitVector(word: u32) -> vec2f {
  let quarter = (word + 0x20000000u) >> 30u;
  let rest = bitcast<i32>(word - (quarter << 30u));
  let y = (f32(rest) + 0.5) * 1.4629181e-9;
  let z = y * y;
  let cosine = fma(z, fma(z, fma(z, fma(z, 2.4801587e-5, -1.3888889e-3), 0.041666668), -0.5), 1.0);
  let sine = y * fma(z, fma(z, fma(z, fma(z, 2.7557319e-6, -1.9841270e-4), 8.3333333e-3), -0.16666667), 1.0);
  let swapped = select(vec2f(cosine, sine), vec2f(-sine, cosine), (quarter & 1u) == 1u);
  return select(swapped, -swapped, (quarter & 2u) == 2u);
}

// Box–Muller on the pairs (x0, x1) and (x2, x3).
fn normals(words: vec4u) -> vec4f {
  let first = sqrt(2.0 * exponential(words.x)) * unitVector(words.y);
  let second = sqrt(2.0 * exponential(words.z)) * unitVector(words.w);
  return vec4f(first, second);
}
