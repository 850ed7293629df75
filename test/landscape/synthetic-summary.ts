// A made-up summary of a slice, for tables and means: what matters to a test is given, the rest is plain.
import type { Estimate } from "../../landscape/statistics/intervals.ts";
import type { CorrelationDeterminations } from "../../landscape/statistics/signal.ts";
import type { Summary } from "../../landscape/statistics/summary.ts";

const about = (value: number): Estimate => ({ value, low: value - 0.1, high: value + 0.1, standardError: 0.05 });

export interface SyntheticSummary {
  r?: Estimate;
  rInfinity?: Estimate;
  withinRing?: Estimate;
  determined?: CorrelationDeterminations;
  isComplete?: boolean;
  coverage?: number | null;
  floorShare?: number;
}

export function syntheticSummary(given: SyntheticSummary = {}): Summary {
  const {
    r = about(-0.8),
    rInfinity = about(-0.9),
    withinRing = about(-0.3),
    isComplete = true,
    floorShare = 0.05,
  } = given;
  const signal = { value: 1, standardError: 0.1, promptsNeeded: 35, isLowerBound: false };
  const need = {
    isDetermined: true,
    rollouts: { used: 64, needed: 35, isLowerBound: false },
    reference: { used: 32, needed: 20, isLowerBound: false },
  };
  const interval = {
    truth: -0.8,
    coverage: given.coverage ?? 0.95,
    coverageOfAll: given.coverage ?? 0.95,
    standardError: 0.02,
    undetermined: 0,
    intervalName: "",
  };
  return {
    schemaVersion: 3,
    grid: { points: 7, radius: 0.05, cells: isComplete ? 49 : 9, total: 49, isComplete },
    prompts: { rollouts: 64, rolloutsPerPrompt: 1, reference: 32, referencePerPrompt: 4 },
    r,
    rInfinity,
    withinRing,
    spearman: about(-0.7),
    kendall: -0.5,
    partialPearson: about(-0.2),
    partialSpearman: about(-0.2),
    determined: given.determined ?? { r: need, rInfinity: need, withinRing: need },
    signals: { reward: signal, kl: signal, rewardWithinRing: signal, klWithinRing: signal },
    coverage:
      given.coverage === null
        ? null
        : {
            simulations: 200,
            noise: { constant: 0.3, smooth: 0.3, white: 0.4, length: 2 },
            r: interval,
            rInfinity: interval,
            withinRing: interval,
          },
    smoothNull: null,
    originReward: about(0.7),
    origin: null,
    parity: { even: 0.9, odd: 0.1, evenFreeOfNoise: 0.95 },
    peak: null,
    overlap: { size: 5, canDiffer: true, share: about(0.6), expected: about(0.5), excess: about(0.1) },
    floor: { share: floorShare, isFlagged: floorShare > 0.5 },
    advantages: { groups: 32, nonZero: 29 },
    surrogate: null,
    klBins: [],
    firstDifferences: null,
    rings: { reward: [], kl: [] },
    klAtMidEdges: 0.0504,
    klAtCorners: 0.1202,
  };
}
