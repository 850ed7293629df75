// Plain statistics on numbers in float64: correlations, ranks, quantiles, spreads. Estimates from per-prompt maps are
// in estimands.ts and intervals.ts. An undefined result (a constant input) is null, never NaN: NaN does not survive JSON.

type Values = ArrayLike<number>;

/**
 * A deviation below this share of the mean's magnitude is rounding: the input counts as constant (scipy warns at the
 * same).
 */
const CONSTANT = 1e-13;

export function mean(values: Values): number {
  let sum = 0;
  for (let k = 0; k < values.length; k++) sum += values[k];
  return sum / values.length;
}

function sumOfSquares(values: Values, centre: number): number {
  let sum = 0;
  for (let k = 0; k < values.length; k++) sum += (values[k] - centre) ** 2;
  return sum;
}

export interface Spread {
  mean: number;
  /** Divided by n − 1; null for one value. */
  sampleDeviation: number | null;
  /** Divided by n. */
  populationDeviation: number;
  /** sampleDeviation / √n. */
  standardError: number | null;
}

export function spread(values: Values): Spread {
  const centre = mean(values);
  const squares = sumOfSquares(values, centre);
  const n = values.length;
  const sampleDeviation = n > 1 ? Math.sqrt(squares / (n - 1)) : null;
  return {
    mean: centre,
    sampleDeviation,
    populationDeviation: Math.sqrt(squares / n),
    standardError: sampleDeviation === null ? null : sampleDeviation / Math.sqrt(n),
  };
}

/** Quantile at level q of [0, 1]: linear between the order statistics around q · (n − 1), as numpy's default. */
export function quantile(values: Values, level: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), level);
}

/** As `quantile`, of values in ascending order. */
export function quantileOfSorted(sorted: Float64Array, level: number): number {
  const place = level * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  const t = place - below;
  const step = sorted[above] - sorted[below];
  // From the nearer end, so that both ends are met exactly.
  return t < 0.5 ? sorted[below] + step * t : sorted[above] - step * (1 - t);
}

/** Pearson's r; null when either input is constant, or shorter than two. */
export function pearson(x: Values, y: Values): number | null {
  if (x.length < 2) return null;
  const meanX = mean(x);
  const meanY = mean(y);
  const squaresX = sumOfSquares(x, meanX);
  const squaresY = sumOfSquares(y, meanY);
  const isConstant = (squares: number, centre: number) => squares <= (CONSTANT * centre) ** 2 * x.length;
  if (isConstant(squaresX, meanX) || isConstant(squaresY, meanY)) return null;
  let products = 0;
  for (let k = 0; k < x.length; k++) products += (x[k] - meanX) * (y[k] - meanY);
  return Math.max(-1, Math.min(1, products / Math.sqrt(squaresX) / Math.sqrt(squaresY)));
}

/** Ranks from 1; equal values share the mean of their ranks. */
export function ranks(values: Values): Float64Array {
  const order = Array.from({ length: values.length }, (_, k) => k).sort((a, b) => values[a] - values[b]);
  const result = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let k = start; k < end; k++) result[order[k]] = (start + end + 1) / 2;
    start = end;
  }
  return result;
}

/** Spearman's rank correlation: Pearson's of the ranks. */
export const spearman = (x: Values, y: Values): number | null => pearson(ranks(x), ranks(y));

/** Kendall's tau-b = (concordant − discordant) / √(pairs untied in x · pairs untied in y). */
export function kendall(x: Values, y: Values): number | null {
  let balance = 0;
  let untiedX = 0;
  let untiedY = 0;
  for (let a = 1; a < x.length; a++)
    for (let b = 0; b < a; b++) {
      const signX = Math.sign(x[a] - x[b]);
      const signY = Math.sign(y[a] - y[b]);
      balance += signX * signY;
      untiedX += signX * signX;
      untiedY += signY * signY;
    }
  return untiedX === 0 || untiedY === 0 ? null : balance / Math.sqrt(untiedX) / Math.sqrt(untiedY);
}

/**
 * Correlation of x and y given z: (r_xy − r_xz·r_yz) / √((1 − r_xz²)(1 − r_yz²)).
 * Null when an input is constant or z determines x or y.
 */
export function partialPearson(x: Values, y: Values, z: Values): number | null {
  const xy = pearson(x, y);
  const xz = pearson(x, z);
  const yz = pearson(y, z);
  if (xy === null || xz === null || yz === null) return null;
  const leftOfX = 1 - xz * xz;
  const leftOfY = 1 - yz * yz;
  if (Math.min(leftOfX, leftOfY) <= 1e-12) return null;
  return Math.max(-1, Math.min(1, (xy - xz * yz) / Math.sqrt(leftOfX * leftOfY)));
}

/** The same on ranks. */
export const partialSpearman = (x: Values, y: Values, z: Values): number | null =>
  partialPearson(ranks(x), ranks(y), ranks(z));
