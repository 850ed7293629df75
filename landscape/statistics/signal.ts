// How well a map's spread stands out of rollout noise, and how many prompts would make it stand out.
import { centred, dot, meanMap, type Projection, pairProduct, rounding } from "./prompt-maps.ts";
import { mean } from "./statistics.ts";

/**
 * One set of prompts behind an estimate: how many were used, and how many would make its maps stand out of the noise.
 */
export interface PromptNeed {
  used: number;
  /** Null: no number can be given. */
  needed: number | null;
  /** True if `needed` is a lower bound: perhaps more prompts are needed. */
  isLowerBound: boolean;
}

/** Whether an estimate came out, and what each of its two sets of prompts would need. */
export interface Determination {
  isDetermined: boolean;
  /** Of the prompts with fresh rollouts, which give R. */
  rollouts: PromptNeed;
  /** Of the prompts with reference completions, which give KL. */
  reference: PromptNeed;
}

/** Of the three correlations of a map. */
export interface CorrelationDeterminations {
  r: Determination;
  rInfinity: Determination;
  withinRing: Determination;
}

/**
 * The prompts that an estimate from these two signals needs. An undetermined estimate needs more prompts than were
 * used: if both signals ask for fewer, the lower bound is one more than were used.
 */
export function determination(
  isDetermined: boolean,
  rollouts: { prompts: number; signal: Signal },
  reference: { prompts: number; signal: Signal },
): Determination {
  const needOf = ({ prompts, signal }: typeof rollouts): PromptNeed => ({
    used: prompts,
    needed: signal.promptsNeeded,
    isLowerBound: signal.isLowerBound,
  });
  const needs = [needOf(rollouts), needOf(reference)];
  const isShort = ({ used, needed }: PromptNeed) => needed === null || needed > used;
  const [ofRollouts, ofReference] =
    isDetermined || needs.some(isShort)
      ? needs
      : needs.map(({ used }): PromptNeed => ({ used, needed: used + 1, isLowerBound: true }));
  return { isDetermined, rollouts: ofRollouts, reference: ofReference };
}

export interface Signal {
  /** C_XX: mean product over pairs of different prompts; the map's own squared spread, summed over cells. */
  value: number;
  /** Standard error of `value` at this number of prompts. */
  standardError: number;
  /**
   * Prompts at which `value` would exceed zero by two standard errors. Null when even its upper end is not above zero.
   */
  promptsNeeded: number | null;
  /** True if `value` ≤ 0: the number was then computed from its upper end, and more may be needed. */
  isLowerBound: boolean;
}

/**
 * How well a map's spread stands out of the noise, and how many prompts would make it stand out.
 *
 * With Σ the covariance over cells of one prompt's map around the mean map μ, Var C ≈ 2·tr Σ² / (n(n − 1)) + 4·μᵀΣμ /
 * n. Both traces are estimated from the prompts' deviations; the number needed is the n at which C = 2·√Var.
 */
export function signalOf(maps: readonly Float64Array[], projection: Projection = centred): Signal {
  const n = maps.length;
  const projected = maps.map(projection);
  const cells = projected[0]?.length ?? 0;
  const value = pairProduct(projected, projected);
  if (!Number.isFinite(value)) return { value: 0, standardError: 0, promptsNeeded: null, isLowerBound: true };
  const centre = meanMap(projected);
  const deviations = projected.map((map) => map.map((x, cell) => x - centre[cell]));
  const traceSquared = meanSquaredProduct(deviations, cells);
  const along = mean(deviations.map((deviation) => dot(deviation, centre) ** 2));
  const alongMean = Math.max(0, along - traceSquared / n); // the mean map's own noise, taken out
  const standardError = Math.sqrt((2 * traceSquared) / (n * (n - 1)) + (4 * alongMean) / n);
  const isLowerBound = value <= rounding(maps);
  const spreadSquared = isLowerBound ? value + 2 * standardError : value;
  // C² = 4·(2·traceSquared / n² + 4·alongMean / n), solved for n.
  const promptsNeeded =
    spreadSquared > rounding(maps)
      ? Math.max(
          3,
          Math.ceil(
            (8 * alongMean + Math.sqrt(64 * alongMean ** 2 + 8 * traceSquared * spreadSquared ** 2)) /
              spreadSquared ** 2,
          ),
        )
      : null;
  return { value, standardError, promptsNeeded, isLowerBound };
}

/** Mean over pairs i ≠ j of (e_i · e_j)², which estimates tr Σ²; through the smaller of the two Gram matrices. */
function meanSquaredProduct(deviations: readonly Float64Array[], cells: number): number {
  const n = deviations.length;
  let sum = 0;
  if (n <= cells) {
    for (let i = 1; i < n; i++) for (let j = 0; j < i; j++) sum += 2 * dot(deviations[i], deviations[j]) ** 2;
  } else {
    for (let a = 0; a < cells; a++)
      for (let b = 0; b <= a; b++) {
        let product = 0;
        for (const deviation of deviations) product += deviation[a] * deviation[b];
        sum += (a === b ? 1 : 2) * product ** 2;
      }
    for (const deviation of deviations) sum -= dot(deviation, deviation) ** 2;
  }
  return sum / (n * (n - 1));
}
