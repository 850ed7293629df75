// An estimate's values without each prompt, as a table. It is small, so that slices can be read one after another, and
// still be paired: the difference of two checkpoints needs their tables alone.
import { type Estimand, LEAST_PROMPTS } from "./estimands.ts";
import { type Estimate, jackknife } from "./intervals.ts";
import { NONE } from "./prompt-maps.ts";

/** null: undetermined. */
export interface LeaveOneOut {
  readonly value: number | null;
  /** Without prompt p of the study's list. */
  readonly without: readonly (number | null)[];
}

export function leaveOneOut({ prompts, at }: Estimand): LeaveOneOut {
  const known = (value: number | null): number | null => (Number.isNaN(value) ? null : value); // a mean of no prompt
  return { value: known(at(NONE)), without: Array.from({ length: prompts }, (_, p) => known(at(p))) };
}

/** The table as an estimand, which `difference`, `trend` and `jackknife` take. */
export const estimandOf = ({ value, without }: LeaveOneOut): Estimand => ({
  prompts: without.length,
  at: (deleted) => (deleted < 0 ? value : without[deleted]),
});

/**
 * The jackknife's interval; from fewer than LEAST_PROMPTS prompts the value alone. If all deletions give the same value
 * (no rollout of any prompt succeeds, for example), the prompts show no spread, and there is no interval either: one of
 * width 0 would claim certainty.
 * @param fewest  prompts of the smaller set, if the estimand needs both
 */
export function promptInterval(estimand: Estimand, fewest = estimand.prompts): Estimate {
  if (fewest >= LEAST_PROMPTS) {
    const estimate = jackknife(estimand);
    if (estimate.standardError !== 0) return estimate;
  }
  return { value: estimand.at(NONE), low: null, high: null, standardError: null };
}

/** Σ_p above_p ÷ Σ_p below_p: a mean over prompts if every below_p is 1. Null if the divisor is 0. */
export function ratioOfSums(above: ArrayLike<number>, below: ArrayLike<number>): Estimand {
  let sumAbove = 0;
  let sumBelow = 0;
  for (let p = 0; p < above.length; p++) {
    sumAbove += above[p];
    sumBelow += below[p];
  }
  return {
    prompts: above.length,
    at: (p) => {
      const divisor = p < 0 ? sumBelow : sumBelow - below[p];
      return divisor === 0 ? null : (p < 0 ? sumAbove : sumAbove - above[p]) / divisor;
    },
  };
}
