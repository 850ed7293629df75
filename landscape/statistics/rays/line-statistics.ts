// A line from a checkpoint to another one and beyond, beside random rays at equal KL. If training had found a direction of its
// own, reward along the line would lie outside what random directions of the same KL give.
import type { RayFiles } from "../../files/ray-files.ts";
import { difference, type Estimand } from "../estimands.ts";
import { type Estimate, jackknife } from "../intervals.ts";
import { promptInterval } from "../leave-one-out.ts";
import { pointOf } from "../points.ts";
import { NONE } from "../prompt-maps.ts";
import { quantile } from "../statistics.ts";
import { type FieldPoint, fieldPoint, klAt, LEAST_RAYS, type RayField, rewardAt } from "./ray-field.ts";
import { rewardsAtKl } from "./ray-statistics.ts";

/** The random rays where their KL is that of a point on the line. */
export interface Beside {
  /** Rays that reach this KL on all of their halves. */
  readonly rays: number;
  readonly mean: number;
  /** The 10% and 90% quantiles over these rays. */
  readonly low: number;
  readonly high: number;
  /** Share of these rays with less reward than the line. */
  readonly shareBelow: number;
  /** Reward on the line less the rays' mean, paired over prompts; the rays are held fixed. */
  readonly excess: Estimate;
  /** The same difference with a delete-one-ray jackknife; the prompts are held fixed. No interval below LEAST_RAYS rays. */
  readonly excessOverRays: Estimate;
}

export interface LinePoint {
  /** 0 is the checkpoint, 1 the other one. */
  readonly position: number;
  readonly reward: Estimate;
  /** Reward less the checkpoint's own, paired over prompts; null at the checkpoint. */
  readonly gain: Estimate | null;
  /** Nats per token, from the checkpoint. */
  readonly kl: number;
  /** J − J(0), normalisation group-token. */
  readonly objective: number;
  /** Null at the checkpoint, without rays, or where fewer than two rays reach this KL. */
  readonly beside: Beside | null;
}

export interface LineStatistics {
  readonly step: number;
  readonly stepsAhead: number;
  /** In the order of positions. */
  readonly points: readonly LinePoint[];
}

/** @returns null without the checkpoint's own point */
export function lineStatistics(
  step: number,
  stepsAhead: number,
  { cells, reference }: RayFiles,
  rays: RayField | null,
): LineStatistics | null {
  const origin = cells.find(({ i }) => i < 0);
  if (origin === undefined) return null;
  const own = fieldPoint(origin, reference);
  const ownObjective = pointOf(origin, reference).j_group_token;
  const points = [...cells]
    .sort((one, other) => one.alpha - other.alpha)
    .map((cell): LinePoint => {
      const here = fieldPoint(cell, reference);
      const reward = rewardOf(here);
      const tokens = Float64Array.from(reference.tokens, (of) => of.reduce((sum, one) => sum + one, 0));
      const kl = klAt(here, tokens, NONE);
      return {
        position: cell.alpha,
        reward: promptInterval(reward),
        gain: cell.i < 0 ? null : promptInterval(difference(reward, rewardOf(own))),
        kl,
        objective: pointOf(cell, reference).j_group_token - ownObjective,
        beside: rays === null || cell.i < 0 ? null : besideOf(rays, kl, reward),
      };
    });
  return { step, stepsAhead, points };
}

export const rewardOf = (point: FieldPoint): Estimand => ({
  prompts: point.reward.length,
  at: (prompt) => rewardAt(point, prompt),
});

/** The rays where their KL is `kl`; null where fewer than two reach it. @param reward  at the point beside them */
export function besideOf(rays: RayField, kl: number, reward: Estimand): Beside | null {
  return besideValues((prompt) => rewardsAtKl(rays, kl, prompt).filter((value) => value !== null), reward);
}

/**
 * Some rays beside a point.
 * @param valuesAt  the reward of each ray, without one prompt or with all of them (NONE)
 */
export function besideValues(valuesAt: (prompt: number) => readonly number[], reward: Estimand): Beside | null {
  const values = valuesAt(NONE);
  if (values.length < 2) return null;
  const here = reward.at(NONE) ?? 0;
  const meanOf = (of: readonly number[]): number => of.reduce((sum, value) => sum + value, 0) / of.length;
  const mean: Estimand = { prompts: reward.prompts, at: (prompt) => meanOf(valuesAt(prompt)) };
  return {
    rays: values.length,
    mean: meanOf(values),
    low: quantile(values, 0.1),
    high: quantile(values, 0.9),
    shareBelow: values.filter((value) => value < here).length / values.length,
    excess: promptInterval(difference(reward, mean)),
    excessOverRays: overRays(values, (left) => here - meanOf(left)),
  };
}

/** A statistic of the rays' values with a delete-one-ray jackknife. */
function overRays(values: readonly number[], of: (left: readonly number[]) => number): Estimate {
  const estimate = jackknife({
    prompts: values.length,
    at: (ray) => of(ray === NONE ? values : values.filter((_, k) => k !== ray)),
  });
  const isKnown = values.length >= LEAST_RAYS && estimate.standardError !== 0;
  return isKnown ? estimate : { value: estimate.value, low: null, high: null, standardError: null };
}
