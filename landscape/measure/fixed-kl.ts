// Scales a direction until KL from the checkpoint reaches a target. A policy at a distance has another KL around every
// checkpoint, task and model; at a fixed KL they compare. KL is scored on the checkpoint's own completions, so a try
// costs no rollout.

/** A KL within 5% of its target has reached it. */
export const KL_TOLERANCE = 0.05;
/** Scoring passes for one target, on one half of a ray or at one edge of a grid. */
export const MOST_PASSES = 6;

export interface ScaleSearch {
  /** Nats per token. */
  readonly target: number;
  /** The first scale to try. */
  readonly start: number;
  /** Relative: a KL within target · (1 ± tolerance) has reached it. */
  readonly tolerance: number;
  readonly mostPasses: number;
  /** Secant steps in a row that may each leave more than half of the bracket before its middle is tried; 1 by default. */
  readonly patience?: number;
}

export interface FoundScale {
  /** Null if no scale tried reaches the target. */
  readonly scale: number | null;
  /** There; if none reaches it, the nearest KL that was found, or null. */
  readonly kl: number | null;
  /** The scales tried, in their order. */
  readonly passes: readonly (readonly [scale: number, kl: number | null])[];
}

/** KL of small perturbations grows with the square of their scale. */
const usualSlope = 2;
/** One step away from what is known, as a factor of the scale. */
const longestStep = 8;

/**
 * A root of ln KL(scale) = ln target, in ln scale: secant steps within a bracket, and its middle where `patience` secants have not
 * halved the bracket (so with 1 no worse than bisection); outside the scales tried, the power law through the nearest two.
 * @param klAt  nats per token at a scale; a KL that is not finite counts as above every target
 */
export async function findScale(
  { target, start, tolerance, mostPasses, patience = 1 }: ScaleSearch,
  klAt: (scale: number) => Promise<number>,
): Promise<FoundScale> {
  const tried: Tried[] = [];
  const passes: [number, number | null][] = [];
  const aim = Math.log(target);
  let bracket: Bracket = { width: Number.POSITIVE_INFINITY, slow: 0 };
  for (;;) {
    const best = nearest(tried, aim);
    if (best !== null && Math.abs(best.kl - target) <= tolerance * target)
      return { scale: best.scale, kl: best.kl, passes };
    if (passes.length >= mostPasses) return { scale: null, kl: best?.kl ?? null, passes };
    const next = nextScale(tried, aim, Math.log(start), bracket, patience);
    bracket = next.bracket;
    const scale = Math.exp(next.at);
    const kl = await klAt(scale);
    const finite = Number.isFinite(kl) ? kl : null;
    passes.push([scale, finite]);
    tried.push(triedAt(scale, finite));
  }
}

/** A scale and its KL, with their logarithms x and y. */
interface Tried {
  readonly scale: number;
  readonly kl: number;
  readonly x: number;
  readonly y: number;
}

/** KL 0 is below every target, and what is not a number above. */
function triedAt(scale: number, kl: number | null): Tried {
  const y = kl === null ? Number.POSITIVE_INFINITY : Math.log(Math.max(kl, 1e-30));
  return { scale, kl: kl ?? Number.POSITIVE_INFINITY, x: Math.log(scale), y };
}

function nearest(tried: readonly Tried[], aim: number): Tried | null {
  return tried
    .filter(({ y }) => Number.isFinite(y))
    .reduce<Tried | null>(
      (best, one) => (best === null || Math.abs(one.y - aim) < Math.abs(best.y - aim) ? one : best),
      null,
    );
}

/** Its width in ln scale, and how many secants in a row have not halved it. */
interface Bracket {
  readonly width: number;
  readonly slow: number;
}

/** @param before  the bracket one step ago */
function nextScale(
  tried: readonly Tried[],
  aim: number,
  start: number,
  before: Bracket,
  patience: number,
): { at: number; bracket: Bracket } {
  const open: Bracket = { width: Number.POSITIVE_INFINITY, slow: 0 };
  if (tried.length === 0) return { at: start, bracket: open };
  const sorted = [...tried].sort((one, other) => one.x - other.x);
  // The first scale above the target, and the last one below it: KL is taken to grow between them.
  const aboveAt = sorted.findIndex(({ y }) => y > aim);
  const ends =
    aboveAt < 0 ? ([sorted[sorted.length - 1], sorted.at(-2)] as const) : ([sorted[0], sorted.at(1)] as const);
  if (aboveAt <= 0) return { at: outside(...ends, aim), bracket: open };
  const [low, high] = [sorted[aboveAt - 1], sorted[aboveAt]];
  const width = high.x - low.x;
  const slow = width > before.width / 2 ? before.slow + 1 : 0;
  if (slow >= patience || !Number.isFinite(high.y)) return { at: low.x + width / 2, bracket: { width, slow: 0 } };
  return { at: low.x + (width * (aim - low.y)) / (high.y - low.y), bracket: { width, slow } };
}

/** Along the power law through the end of what is known and its neighbour. */
function outside({ x, y }: Tried, neighbour: Tried | undefined, aim: number): number {
  const slope = neighbour === undefined ? usualSlope : (y - neighbour.y) / (x - neighbour.x);
  const steep = Number.isFinite(slope) ? Math.min(Math.max(slope, 0.5), 4) : usualSlope;
  const most = Math.log(longestStep);
  return x + Math.min(Math.max((aim - y) / steep, -most), most);
}
