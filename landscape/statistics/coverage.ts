// Does a 95% interval contain the truth in 95 of 100 studies? No formula fits the noise of a sweep, so this is
// simulated with that noise's own structure.
//
// A model with a known truth is fitted to the measured maps; then many studies of the same size are drawn from it:
//  - Truth of R: the quadratic surface through the mean reward map (hill, slope, saddle and mixtures of them),
//    stretched so that its squared spread is C_RR, the measured map's own without noise.
//  - Noise of R: a prompt's rewards over the cells are a Gaussian field z through the rewards' own distribution (a
//    copula), so rewards of 0 or 1 stay 0 or 1, and partial credit stays partial credit. Each cell shifts z so that
//    its mean is the truth. The field has a part constant over the cells (easy and hard prompts, and noise that all
//    cells share), a smooth part (noise that near cells share) and a white part; their shares and the length are fitted
//    to the measured covariance between cells.
//  - KL: whole maps of the reference prompts, drawn with replacement; their mean is the truth.
// Not modelled: a link between a prompt's KL and its reward, and truths that are not quadratic.

import { normalCumulative, normalDensity, normalQuantile, solveIncreasing } from "../../rl/index.ts";
import type { GridCell } from "../grid.ts";
import { mapCorrelation, mapCorrelations } from "./estimands.ts";
import { jackknife, saysSomething } from "./intervals.ts";
import {
  centred,
  centredInRings,
  dot,
  meanMap,
  NONE,
  type Projection,
  type PromptMaps,
  pairProduct,
  rounding,
} from "./prompt-maps.ts";
import { type SimulationRandom, simulationRandom } from "./random.ts";
import { fieldSampler, fitSmooth, lagMeans } from "./random-fields.ts";
import { mean } from "./statistics.ts";

export interface IntervalCoverage {
  /**
   * The value that the interval should contain. For r, whose truth depends on the budget: the mean over the simulated
   * studies.
   */
  truth: number | null;
  /** Share of determined studies whose 95% interval contained it. */
  coverage: number | null;
  /**
   * The same share over all studies that had an interval. It includes studies that are undetermined because their
   * interval contains every correlation, and so the truth; hence it is not below `coverage`.
   */
  coverageOfAll: number | null;
  /** Simulation error of `coverage`. */
  standardError: number | null;
  /** Share of studies in which the estimate was undetermined (intervals.ts). */
  undetermined: number;
  /** "95% interval", or what it must be called instead when coverage is below 90%. */
  intervalName: string;
}

export interface SimulatedCoverage {
  simulations: number;
  /** Shares of the noise that are constant over cells, smooth and white, and the smooth part's length in grid steps. */
  noise: { constant: number; smooth: number; white: number; length: number };
  r: IntervalCoverage;
  rInfinity: IntervalCoverage;
  withinRing: IntervalCoverage;
}

/** A step function of a standard normal: value_k where threshold_{k−1} < z ≤ threshold_k. */
interface Rewards {
  values: readonly number[];
  /** One fewer than the values, increasing. */
  thresholds: readonly number[];
}

/** Below this coverage the interval is not called a 95% interval. */
const LEAST_COVERAGE = 0.9;
const MOST_LEVELS = 64;

/**
 * Simulated coverage of the jackknife intervals of r, r∞ and within-ring r for maps like these.
 * @returns null when no model can be fitted: C_RR ≤ 0 (r∞ is undetermined, so there is no truth to cover),
 *          constant rewards, fewer than three prompts in a set, or too few cells
 */
export function simulateCoverage(
  maps: PromptMaps,
  { seed, simulations = 200 }: { seed: number; simulations?: number },
): SimulatedCoverage | null {
  if (maps.reward.length < 3 || maps.kl.length < 3) return null;
  const random = simulationRandom(seed, 2);
  const rewards = rewardDistribution(maps.reward);
  const truth = fittedTruth(maps);
  const noise = rewards === null ? null : fittedNoise(maps, rewards);
  if (rewards === null || truth === null || noise === null) return null;
  const shifts = truth.map((value) => shiftFor(rewards, value));
  const trueReward = Float64Array.from(shifts, (shift) => meanReward(rewards, shift));
  const trueKl = meanMap(maps.kl);
  const drawReward = rewardSampler(maps.cells, rewards, shifts, noise, random);

  const trueAfter = (projection: typeof centred) => mapCorrelation([trueKl], [trueReward], projection, "all").at(NONE);
  const targets = { r: null, rInfinity: trueAfter(centred), withinRing: trueAfter(centredInRings(maps.cells)) };
  const inRings = centredInRings(maps.cells);
  // KL maps are drawn again and again from the same ones.
  const projectedOnce = (projection: Projection): Projection => {
    const known = new Map(maps.kl.map((map) => [map, projection(map)]));
    return (map) => known.get(map) ?? projection(map);
  };
  const projections = { centred: projectedOnce(centred), inRings: projectedOnce(inRings) };
  const intervals = { r: [], rInfinity: [], withinRing: [] } as Record<
    "r" | "rInfinity" | "withinRing",
    SimulatedInterval[]
  >;
  for (let simulation = 0; simulation < simulations; simulation++) {
    const reward = maps.reward.map(drawReward);
    const kl = maps.kl.map(() => maps.kl[random.integer(maps.kl.length)]);
    // As rAtBudget, rInfinity and rWithinRing; the first two share their sums.
    const { all: r, pairs: rInfinity } = mapCorrelations(kl, reward, projections.centred);
    const { pairs: withinRing } = mapCorrelations(kl, reward, projections.inRings);
    const estimands = { r, rInfinity, withinRing };
    for (const name of ["r", "rInfinity", "withinRing"] as const) {
      const estimate = jackknife(estimands[name]);
      const { value, low, high } = estimate;
      const isShown = saysSomething(estimate);
      if (value !== null && low !== null && high !== null) intervals[name].push({ value, low, high, isShown });
    }
  }
  const result = (name: keyof typeof intervals) =>
    coverageOf(intervals[name], targets[name], simulations, name === "r");
  return { simulations, noise, r: result("r"), rInfinity: result("rInfinity"), withinRing: result("withinRing") };
}

interface SimulatedInterval {
  value: number;
  low: number;
  high: number;
  /** Determined, by the rule of intervals.ts. */
  isShown: boolean;
}

function coverageOf(
  intervals: readonly SimulatedInterval[],
  target: number | null,
  simulations: number,
  takeMean: boolean,
): IntervalCoverage {
  const shown = intervals.filter(({ isShown }) => isShown);
  const determined = shown.length;
  const undetermined = 1 - determined / simulations;
  const truth = takeMean && determined > 0 ? mean(intervals.map(({ value }) => value)) : target;
  if (truth === null || determined === 0)
    return {
      truth,
      coverage: null,
      coverageOfAll: null,
      standardError: null,
      undetermined,
      intervalName: "interval, coverage unknown",
    };
  const share = (of: readonly SimulatedInterval[]) =>
    of.filter(({ low, high }) => low <= truth && truth <= high).length / of.length;
  const coverage = share(shown);
  return {
    truth,
    coverage,
    coverageOfAll: share(intervals),
    standardError: Math.sqrt((coverage * (1 - coverage)) / determined),
    undetermined,
    intervalName:
      coverage >= LEAST_COVERAGE ? "95% interval" : `interval, simulated coverage ${Math.round(100 * coverage)}%`,
  };
}

/** The rewards of all cells and prompts as a step function; if there are many values, neighbours are merged. */
function rewardDistribution(maps: readonly Float64Array[]): Rewards | null {
  const cells = maps[0].length;
  const all = new Float64Array(maps.length * cells);
  maps.forEach((map, p) => {
    all.set(map, p * cells);
  });
  all.sort();
  if (all[0] === all[all.length - 1]) return null;
  const runs: { sum: number; count: number }[] = []; // equal rewards
  all.forEach((value, k) => {
    if (k === 0 || value !== all[k - 1]) runs.push({ sum: 0, count: 0 });
    const run = runs[runs.length - 1];
    run.sum += value;
    run.count++;
  });
  const share = runs.length > MOST_LEVELS ? all.length / MOST_LEVELS : 0;
  const levels: { sum: number; count: number }[] = [];
  for (const run of runs) {
    const last = levels.at(-1);
    if (last === undefined || last.count + run.count > share) levels.push({ ...run });
    else {
      last.sum += run.sum;
      last.count += run.count;
    }
  }
  let below = 0;
  const thresholds = levels.slice(0, -1).map(({ count }) => {
    below += count;
    return normalQuantile(below / all.length);
  });
  return { values: levels.map(({ sum, count }) => sum / count), thresholds };
}

/** E[reward(z + shift)], z standard normal: value_0 + Σ_k (value_{k+1} − value_k) · Φ(shift − threshold_k). */
function meanReward({ values, thresholds }: Rewards, shift: number): number {
  return thresholds.reduce(
    (sum, threshold, k) => sum + (values[k + 1] - values[k]) * normalCumulative(shift - threshold),
    values[0],
  );
}

/** The shift of z that gives a cell this mean reward; at most ±8 standard deviations. */
const shiftFor = (rewards: Rewards, value: number): number =>
  solveIncreasing((shift) => meanReward(rewards, shift), value, -8, 8);

/** The quadratic surface in (i, j) through the mean reward map, stretched to the squared spread C_RR. */
function fittedTruth({ cells, reward }: PromptMaps): Float64Array | null {
  const centredMaps = reward.map(centred);
  const signal = pairProduct(centredMaps, centredMaps);
  if (signal <= rounding(reward)) return null;
  const average = meanMap(reward);
  const level = mean(average);
  const surface = new Float64Array(cells.length);
  const basis: Float64Array[] = [];
  const monomials = [
    [0, 0],
    [1, 0],
    [0, 1],
    [2, 0],
    [1, 1],
    [0, 2],
  ]; // powers of i and j
  for (const [a, b] of monomials) {
    // Gram–Schmidt: what this monomial adds to those before it.
    const direction = Float64Array.from(cells, ({ i, j }) => i ** a * j ** b);
    const size = Math.sqrt(dot(direction, direction));
    for (const earlier of basis) {
      const along = dot(direction, earlier);
      for (let k = 0; k < direction.length; k++) direction[k] -= along * earlier[k];
    }
    const left = Math.sqrt(dot(direction, direction));
    if (left <= 1e-9 * size) continue;
    const unit = direction.map((value) => value / left);
    basis.push(unit);
    if (a + b === 0) continue;
    const along = dot(unit, average);
    for (let k = 0; k < surface.length; k++) surface[k] += along * unit[k];
  }
  const fitted = dot(surface, surface);
  if (fitted === 0) return null;
  return surface.map((value) => level + value * Math.sqrt(signal / fitted));
}

interface Noise {
  constant: number;
  smooth: number;
  white: number;
  length: number;
}

/** Shares of the latent field, from the covariance of the prompts' deviations between cells at each distance. */
function fittedNoise({ cells, reward }: PromptMaps, rewards: Rewards): Noise | null {
  const average = meanMap(reward);
  const byCell = cells.map((_, cell) => Float64Array.from(reward, (map) => map[cell] - average[cell]));
  const variance = mean(byCell.map((deviations) => dot(deviations, deviations)));
  if (variance === 0) return null;
  const latent = latentCorrelation(rewards);
  const lags = lagMeans(cells, (a, b) => dot(byCell[a], byCell[b]) / variance);
  const fit = fitSmooth(
    lags.map((lag) => ({ ...lag, mean: latent(lag.mean) })),
    cells,
  );
  if (fit === null) return null;
  const constant = Math.min(1, Math.max(0, fit.base));
  const smooth = Math.min(1 - constant, Math.max(0, fit.amplitude + Math.min(0, fit.base)));
  return { constant, smooth, white: Math.max(0, 1 - constant - smooth), length: fit.length };
}

/**
 * The correlation of two normals whose rewards correlate this much. With Hermite coefficients c_q of the step function,
 * rewards of normals that correlate ρ have covariance Σ_q c_q² ρ^q (Mehler); a step at t adds to c_q its height · φ(t)
 * · He_{q−1}(t) / √q!.
 */
function latentCorrelation({ values, thresholds }: Rewards): (rewardCorrelation: number) => number {
  const terms = 80;
  const weights = new Float64Array(terms + 2);
  const coefficients = new Float64Array(terms + 1);
  thresholds.forEach((threshold, k) => {
    const height = (values[k + 1] - values[k]) * normalDensity(threshold);
    // he_n = He_n / √n!: he_{n+1} = (t·he_n − √n·he_{n−1}) / √(n + 1)
    let [previous, current] = [0, 1];
    for (let q = 1; q <= terms; q++) {
      coefficients[q] += (height * current) / Math.sqrt(q);
      [previous, current] = [current, (threshold * current - Math.sqrt(q - 1) * previous) / Math.sqrt(q)];
    }
  });
  const shares = thresholds.map((threshold) => normalCumulative(threshold));
  const chance = values.map((_, k) => (shares[k] ?? 1) - (k === 0 ? 0 : shares[k - 1]));
  const level = values.reduce((sum, value, k) => sum + chance[k] * value, 0);
  const variance = values.reduce((sum, value, k) => sum + chance[k] * (value - level) ** 2, 0);
  let rest = variance;
  for (let q = 1; q <= terms; q++) {
    weights[q] = coefficients[q] ** 2;
    rest -= weights[q];
  }
  weights[terms + 1] = Math.max(0, rest); // the series' tail, as one power
  const rewardCorrelation = (rho: number) => {
    let sum = 0;
    let power = 1;
    for (let q = 1; q <= terms + 1; q++) {
      power *= rho;
      sum += weights[q] * power;
    }
    return sum / variance;
  };
  return (wanted) => (wanted <= 0 ? 0 : solveIncreasing(rewardCorrelation, wanted, 0, 1));
}

/** Draws one prompt's reward map. */
function rewardSampler(
  cells: readonly GridCell[],
  { values, thresholds }: Rewards,
  shifts: Float64Array,
  noise: Noise,
  random: SimulationRandom,
): () => Float64Array {
  const points = cells.reduce((most, { i, j }) => Math.max(most, i + 1, j + 1), 0);
  const places = cells.map((cell) => cell.i * points + cell.j);
  const sample = fieldSampler(points, noise.length, random);
  const [constant, smooth, white] = [noise.constant, noise.smooth, noise.white].map(Math.sqrt);
  const levelOf = countBelow(thresholds);
  const grain = new Float64Array(shifts.length);
  return () => {
    const shared = constant * random.normal();
    const field = sample();
    random.normals(grain, grain.length);
    const drawn = new Float64Array(shifts.length);
    for (let cell = 0; cell < shifts.length; cell++) {
      const z = shifts[cell] + shared + smooth * field[places[cell]] + white * grain[cell];
      drawn[cell] = values[levelOf(z)];
    }
    return drawn;
  };
}

/**
 * How many of the sorted numbers are below z. Buckets of equal width over their range give a first guess, which is never
 * too high: it counts what is below the bucket before z's.
 */
function countBelow(sorted: readonly number[]): (z: number) => number {
  const list = Float64Array.from(sorted);
  const buckets = 32 * list.length;
  const least = list[0];
  const scale = buckets / Math.max(list[list.length - 1] - least, Number.MIN_VALUE);
  const guesses = Int32Array.from({ length: buckets + 1 }, (_, bucket) => {
    const edge = least + (bucket - 1) / scale;
    const found = list.findIndex((value) => value >= edge);
    return found < 0 ? list.length : found;
  });
  return (z) => {
    const bucket = (z - least) * scale;
    let count = bucket <= 0 ? 0 : guesses[bucket >= buckets ? buckets : bucket | 0];
    while (count < list.length && z > list[count]) count++;
    return count;
  };
}
