// Seeded normal numbers for tests.

/** Seeded normals rounded to f32, so that every backend starts from the same bits. */
export function normals(seed: number, count: number, scale = 1, mean = 0): Float64Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++)
    values[i] = Math.fround(mean + scale * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
  return values;
}

/** Seeded whole numbers from −3 to 3: f16 holds them, and sums of their products are exact in f32 in any order. */
export function smallIntegers(seed: number, count: number): Float64Array {
  return normals(seed, count, 1.5).map((value) => Math.max(-3, Math.min(3, Math.round(value))));
}
