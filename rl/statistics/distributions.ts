// Normal and Student distributions, as far as intervals and simulations need them, to about 1e-14.

/**
 * The x of [low, high] at which the increasing function reaches `target`; an end of the interval when that x lies
 * outside.
 */
export function solveIncreasing(f: (x: number) => number, target: number, low: number, high: number): number {
  for (let step = 0; step < 100; step++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (f(middle) < target) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** φ(x) = exp(−x²/2) / √(2π). */
export const normalDensity = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/**
 * Φ(x) = ½ + φ(x)·(x + x³/3 + x⁵/(3·5) + …), absolute error below 1e-15. Source: Marsaglia 2004, "Evaluating the normal
 * distribution".
 */
export function normalCumulative(x: number): number {
  if (Math.abs(x) > 8.3) return x > 0 ? 1 : 0;
  let sum = x;
  let term = x;
  for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum); k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return Math.min(1, Math.max(0, 0.5 + sum * normalDensity(x)));
}

/** Φ⁻¹(p), within ±8.3. */
export const normalQuantile = (p: number): number => solveIncreasing(normalCumulative, p, -8.3, 8.3);

/**
 * P(T ≤ t), Student's t with a whole number of degrees of freedom: a finite sum. Source: Abramowitz & Stegun 26.7.3,
 * 26.7.4.
 */
export function studentCumulative(t: number, degrees: number): number {
  const angle = Math.atan(t / Math.sqrt(degrees));
  const cosine = Math.cos(angle);
  const isOdd = degrees % 2 === 1;
  let term = isOdd ? cosine : 1;
  let sum = 0;
  for (let k = isOdd ? 3 : 2; k <= degrees; k += 2) {
    sum += term;
    term *= (cosine * cosine * (k - 1)) / k;
  }
  const central = isOdd ? (angle + Math.sin(angle) * sum) * (2 / Math.PI) : Math.sin(angle) * sum;
  return 0.5 + central / 2;
}

/** The t that P(T ≤ t) = p, for p ≥ ½. */
export function studentQuantile(p: number, degrees: number): number {
  let high = 4;
  while (high < 1e12 && studentCumulative(high, degrees) < p) high *= 2;
  return solveIncreasing((t) => studentCumulative(t, degrees), p, 0, high);
}

/** Half the width of the 95% interval of a mean of `count` values, from its standard error: Student's t. */
export function reachOfMean(standardError: number, count: number): number | null {
  return count < 2 || Number.isNaN(standardError) ? null : studentQuantile(0.975, count - 1) * standardError;
}
