// A line from a checkpoint to another one and beyond, beside random rays at equal KL. If training had found a direction of its
// own, reward along the line would lie outside what random directions of the same KL give.
import type { RayFiles } from "../../files/ray-files.ts";
import { difference, type Estimand } from "../estimands.ts";
import type { Estimate } from "../intervals.ts";
import { promptInterval } from "../leave-one-out.ts";
import { pointOf } from "../points.ts";
import { NONE } from "../prompt-maps.ts";
import { quantile } from "../statistics.ts";
import { fieldPoint, klAt, type RayField, rewardAt } from "./ray-field.ts";
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
}

export interface LinePoint {
  /** 0 is the checkpoint, 1 the other one. */
  readonly position: number;
  readonly reward: Estimate;
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
  const ownObjective = pointOf(origin, reference).j_group_token;
  const points = [...cells]
    .sort((one, other) => one.alpha - other.alpha)
    .map((cell): LinePoint => {
      const here = fieldPoint(cell, reference);
      const reward: Estimand = { prompts: here.reward.length, at: (prompt) => rewardAt(here, prompt) };
      const tokens = Float64Array.from(reference.tokens, (of) => of.reduce((sum, one) => sum + one, 0));
      const kl = klAt(here, tokens, NONE);
      return {
        position: cell.alpha,
        reward: promptInterval(reward),
        kl,
        objective: pointOf(cell, reference).j_group_token - ownObjective,
        beside: rays === null || cell.i < 0 ? null : besideOf(rays, kl, reward),
      };
    });
  return { step, stepsAhead, points };
}

function besideOf(rays: RayField, kl: number, reward: Estimand): Beside | null {
  const values = rewardsAtKl(rays, kl).filter((value) => value !== null);
  if (values.length < 2) return null;
  const here = reward.at(NONE) ?? 0;
  const mean: Estimand = {
    prompts: reward.prompts,
    at: (prompt) => {
      const of = rewardsAtKl(rays, kl, prompt).filter((value) => value !== null);
      return of.reduce((sum, value) => sum + value, 0) / of.length;
    },
  };
  return {
    rays: values.length,
    mean: mean.at(NONE) ?? 0,
    low: quantile(values, 0.1),
    high: quantile(values, 0.9),
    shareBelow: values.filter((value) => value < here).length / values.length,
    excess: promptInterval(difference(reward, mean)),
  };
}
