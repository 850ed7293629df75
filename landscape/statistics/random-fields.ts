// Smooth random fields over a grid, and the correlation with KL that such a field has by chance.
//
// Neighbouring cells share most of their weights and their noise, so 441 cells are far from 441 independent facts and
// the textbook p-value of r says nothing. The null here is a Gaussian random field as rough as the measured map but
// unrelated to KL: unit variance, correlation s·exp(−h²/2ℓ²) at distance h (in grid steps), the rest 1 − s white. ℓ and
// s are fitted to the map's variogram γ(h) = ½·mean (x(c) − x(c'))² over cells at distance h, which needs no mean: the
// mean of so few effective cells would bias it.
import type { GridCell } from "../grid.ts";
import { type SimulationRandom, simulationRandom } from "./random.ts";
import { pearson, quantile } from "./statistics.ts";

/** Means of a function of two cells, by their distance. */
export interface Lag {
  squaredDistance: number;
  pairs: number;
  mean: number;
}

/**
 * Mean of `f(a, b)` over pairs of cells a ≠ b at each distance, up to half the width of the cells: farther pairs are
 * few and all of them at the rim.
 */
export function lagMeans(cells: readonly GridCell[], f: (a: number, b: number) => number): Lag[] {
  const limit = Math.max(2, extentOf(cells) / 2);
  const found = new Map<number, { pairs: number; sum: number }>();
  for (let a = 1; a < cells.length; a++)
    for (let b = 0; b < a; b++) {
      const squaredDistance = (cells[a].i - cells[b].i) ** 2 + (cells[a].j - cells[b].j) ** 2;
      if (squaredDistance > limit * limit) continue;
      const lag = found.get(squaredDistance) ?? { pairs: 0, sum: 0 };
      lag.pairs++;
      lag.sum += f(a, b);
      found.set(squaredDistance, lag);
    }
  return [...found]
    .sort(([a], [b]) => a - b)
    .map(([squaredDistance, { pairs, sum }]) => ({ squaredDistance, pairs, mean: sum / pairs }));
}

function extentOf(cells: readonly GridCell[]): number {
  const span = (place: (cell: GridCell) => number): number =>
    cells.reduce((most, cell) => Math.max(most, place(cell)), Number.NEGATIVE_INFINITY) -
    cells.reduce((least, cell) => Math.min(least, place(cell)), Number.POSITIVE_INFINITY);
  return cells.length === 0
    ? 0
    : Math.max(
        span(({ i }) => i),
        span(({ j }) => j),
      );
}

export interface SmoothFit {
  /** ℓ in grid steps. */
  length: number;
  base: number;
  amplitude: number;
}

/**
 * Fits mean(h) ≈ base + amplitude · exp(−h²/2ℓ²), amplitude ≥ 0, by least squares weighted with the number of pairs; ℓ
 * from half a step (below it a field looks white) to twice the cells' width.
 * @returns null with fewer than three distances
 */
export function fitSmooth(lags: readonly Lag[], cells: readonly GridCell[]): SmoothFit | null {
  if (lags.length < 3) return null;
  const longest = 2 * extentOf(cells);
  const steps = 80;
  let best: SmoothFit | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (let step = 0; step <= steps; step++) {
    const length = 0.5 * (longest / 0.5) ** (step / steps);
    const kernel = lags.map(({ squaredDistance }) => Math.exp(-squaredDistance / (2 * length * length)));
    let [n, sk, skk, sv, skv] = [0, 0, 0, 0, 0];
    lags.forEach(({ pairs, mean }, k) => {
      n += pairs;
      sk += pairs * kernel[k];
      skk += pairs * kernel[k] ** 2;
      sv += pairs * mean;
      skv += pairs * kernel[k] * mean;
    });
    const determinant = n * skk - sk * sk;
    const amplitude = determinant > 1e-12 * n * skk ? Math.max(0, (n * skv - sk * sv) / determinant) : 0;
    const base = (sv - amplitude * sk) / n;
    const loss = lags.reduce((sum, { pairs, mean }, k) => sum + pairs * (mean - base - amplitude * kernel[k]) ** 2, 0);
    if (loss < least) {
      least = loss;
      best = { length, base, amplitude };
    }
  }
  return best;
}

/**
 * Draws smooth fields: L Z Lᵀ with L the Cholesky factor of exp(−h²/2ℓ²) along one axis, since the kernel is a product
 * over both. Unit variance; points × points, row by row.
 */
export function fieldSampler(points: number, length: number, random: SimulationRandom): () => Float64Array {
  const factor = choleskyFactor(points, length);
  // Four columns are summed at once: three more numbers are read, and used by no result.
  const [noise, half] = [0, 0].map(() => new Float64Array(points * points + 3));
  return () => {
    random.normals(noise, points * points);
    const field = new Float64Array(points * points);
    multiplyTransposed(factor, noise, half, points);
    multiplyTransposed(factor, half, field, points);
    return field;
  };
}

/** y = (L X)ᵀ for a lower triangular L, all row by row; k ascends in every sum. */
function multiplyTransposed(factor: Float64Array, x: Float64Array, y: Float64Array, points: number): void {
  for (let row = 0; row < points; row++)
    for (let column = 0; column < points; column += 4) {
      let sum0 = 0;
      let sum1 = 0;
      let sum2 = 0;
      let sum3 = 0;
      for (let k = 0; k <= row; k++) {
        const weight = factor[row * points + k];
        const at = k * points + column;
        sum0 += weight * x[at];
        sum1 += weight * x[at + 1];
        sum2 += weight * x[at + 2];
        sum3 += weight * x[at + 3];
      }
      const to = column * points + row;
      y[to] = sum0;
      if (column + 1 < points) y[to + points] = sum1;
      if (column + 2 < points) y[to + 2 * points] = sum2;
      if (column + 3 < points) y[to + 3 * points] = sum3;
    }
}

/** L of exp(−h²/2ℓ²) = L Lᵀ along one axis, row by row. */
function choleskyFactor(points: number, length: number): Float64Array {
  const factor = new Float64Array(points * points);
  for (let i = 0; i < points; i++)
    for (let j = 0; j <= i; j++) {
      // A long ℓ makes the kernel singular to rounding: 1e-9 more on the diagonal keeps the roots real.
      let rest = Math.exp(-((i - j) ** 2) / (2 * length * length)) + (i === j ? 1e-9 : 0);
      for (let k = 0; k < j; k++) rest -= factor[i * points + k] * factor[j * points + k];
      factor[i * points + j] = i === j ? Math.sqrt(rest) : rest / factor[j * points + j];
    }
  return factor;
}

export interface SmoothNull {
  /** Fitted correlation length ℓ of the reward map, in grid steps. */
  length: number;
  /** The same in units of alpha. */
  lengthInAlpha: number;
  /** Share s of the map's variance that is smooth; the rest is white. */
  smoothShare: number;
  /** The central 95% of r(KL, field). */
  low: number;
  high: number;
  /** Share of fields with |r| at least the map's. */
  shareAsStrong: number;
  draws: number;
}

/**
 * Null distribution of r(KL, R) when R is a random field as rough as the measured map. Null for flat maps or too few
 * cells.
 */
export function smoothNull(
  cells: readonly GridCell[],
  kl: Float64Array,
  reward: Float64Array,
  { seed, draws = 1000 }: { seed: number; draws?: number },
): SmoothNull | null {
  const r = pearson(kl, reward);
  if (r === null) return null;
  const variogram = lagMeans(cells, (a, b) => (reward[a] - reward[b]) ** 2 / 2);
  // γ(h) = white + smooth·(1 − kernel): the fit's base is −(white + smooth), its amplitude smooth.
  const fit = fitSmooth(
    variogram.map((lag) => ({ ...lag, mean: -lag.mean })),
    cells,
  );
  if (fit === null) return null;
  const white = Math.max(0, -fit.base - fit.amplitude);
  const smoothShare = white + fit.amplitude > 0 ? fit.amplitude / (white + fit.amplitude) : 0;
  const random = simulationRandom(seed, 1);
  const points = cells.reduce((most, { i, j }) => Math.max(most, i + 1, j + 1), 0);
  const sample = fieldSampler(points, fit.length, random);
  const values = Float64Array.from({ length: draws }, () => {
    const smooth = sample();
    const field = cells.map(
      ({ i, j }) => Math.sqrt(smoothShare) * smooth[i * points + j] + Math.sqrt(1 - smoothShare) * random.normal(),
    );
    return pearson(kl, field) ?? 0;
  });
  const [first, last] = [cells[0], cells[cells.length - 1]];
  const step =
    Math.hypot(last.alpha - first.alpha, last.beta - first.beta) / Math.hypot(last.i - first.i, last.j - first.j);
  return {
    length: fit.length,
    lengthInAlpha: fit.length * step,
    smoothShare,
    low: quantile(values, 0.025),
    high: quantile(values, 0.975),
    shareAsStrong: values.filter((value) => Math.abs(value) >= Math.abs(r)).length / draws,
    draws,
  };
}
