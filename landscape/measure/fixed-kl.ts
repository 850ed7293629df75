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
/** Interpolations in a row that may each leave more than half of the bracket before its middle is tried. */
const patience = 3;

/**
 * A root of ln KL(scale) = ln target, in ln scale. Within a bracket: the monotone cubic through the scales tried, and the
 * bracket's middle where three in a row have not halved it. (A straight line through the two ends alone creeps where KL bends
 * from a bowl to a wall: both ends then lie far away, and one of them stays.) Outside the scales tried: the power law through
 * the nearest two.
 * @param klAt  nats per token at a scale; a KL that is not finite counts as above every target
 */
export async function findScale(
  { target, start, tolerance, mostPasses }: ScaleSearch,
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
    const next = nextScale(tried, aim, Math.log(start), bracket);
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

/** Its width in ln scale, and how many interpolations in a row have not halved it. */
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
  return { at: monotoneCubic(risingAround(sorted, aboveAt), aim), bracket: { width, slow } };
}

/** The tried scales around a bracket, of which each has a higher KL than the one before; at most two beyond each end. */
function risingAround(sorted: readonly Tried[], aboveAt: number): readonly Tried[] {
  let [from, to] = [aboveAt - 1, aboveAt];
  while (from > 0 && aboveAt - from < 3 && sorted[from - 1].y < sorted[from].y) from--;
  while (
    to + 1 < sorted.length &&
    to - aboveAt < 2 &&
    sorted[to + 1].y > sorted[to].y &&
    Number.isFinite(sorted[to + 1].y)
  )
    to++;
  return sorted.slice(from, to + 1);
}

/**
 * x at y = aim on the monotone piecewise cubic x(y) through points with rising x and y (Fritsch and Butland 1984, with the
 * three-point formula at both ends, as in SciPy's PchipInterpolator). It never leaves the two points around the aim; through two points it is a straight line.
 */
export function monotoneCubic(points: readonly { readonly x: number; readonly y: number }[], aim: number): number {
  const last = points.length - 2;
  const widths = Array.from({ length: last + 1 }, (_, k) => points[k + 1].y - points[k].y);
  const slopes = widths.map((width, k) => (points[k + 1].x - points[k].x) / width);
  const k = Math.max(
    0,
    Math.min(
      last,
      points.findLastIndex(({ y }) => y <= aim),
    ),
  );
  const t = (aim - points[k].y) / widths[k];
  const [from, to] = [derivative(k), derivative(k + 1)];
  const [a, b] = [points[k].x, points[k + 1].x];
  const smooth = t * t * (3 - 2 * t);
  return a + (b - a) * smooth + widths[k] * t * (1 - t) * ((1 - t) * from - t * to);

  function derivative(at: number): number {
    if (last === 0) return slopes[0];
    if (at > 0 && at <= last) {
      const [before, after] = [2 * widths[at] + widths[at - 1], widths[at] + 2 * widths[at - 1]];
      return (before + after) / (before / slopes[at - 1] + after / slopes[at]);
    }
    const [end, next] = at === 0 ? [0, 1] : [last, last - 1];
    const one =
      ((2 * widths[end] + widths[next]) * slopes[end] - widths[end] * slopes[next]) / (widths[end] + widths[next]);
    return Math.max(0, Math.min(one, 3 * slopes[end]));
  }
}

/** Along the power law through the end of what is known and its neighbour. */
function outside({ x, y }: Tried, neighbour: Tried | undefined, aim: number): number {
  const slope = neighbour === undefined ? usualSlope : (y - neighbour.y) / (x - neighbour.x);
  const steep = Number.isFinite(slope) ? Math.min(Math.max(slope, 0.5), 4) : usualSlope;
  const most = Math.log(longestStep);
  return x + Math.min(Math.max((aim - y) / steep, -most), most);
}
