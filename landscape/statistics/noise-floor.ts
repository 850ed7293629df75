// How mean reward at the checkpoint would differ with other rollout noise, and which cells of a map lie outside of that. Prompts
// and weights are held fixed: the draws differ in their noise alone.
import { existsSync } from "node:fs";
import { type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { studentQuantile } from "../../rl/index.ts";
import { noiseFloorFolder, noiseSummaryPath } from "../files/layout.ts";
import { readNoiseDraws } from "../files/noise-files.ts";
import type { StudySettings } from "../settings.ts";
import { type Estimate, jackknife } from "./intervals.ts";
import { NONE } from "./prompt-maps.ts";
import { spread } from "./statistics.ts";

/** Increases when a field changes its meaning or is removed. */
export const NOISE_SCHEMA_VERSION = 1;

/** Share of further draws that the floor's range holds. */
export const FLOOR_SHARE = 0.95;

export interface NoiseFloor {
  /** Mean reward of each draw, in their order. */
  readonly draws: readonly number[];
  /** Their mean, with Student's t over draws. */
  readonly mean: Estimate;
  /** Their standard deviation (n − 1), with a jackknife over draws. */
  readonly deviation: Estimate;
  /** mean ± t·s·√(1 + 1/n): holds 95% of further draws. Null with fewer than two draws. */
  readonly range: { readonly low: number; readonly high: number } | null;
}

/** The cells of a map against a floor. */
export interface OutsideFloor {
  readonly below: number;
  readonly above: number;
  readonly cells: number;
}

export interface CheckpointFloor extends NoiseFloor {
  readonly step: number;
}

/** A map with its cells counted. */
export interface FlooredMap extends OutsideFloor {
  readonly step: number;
  readonly slice: number;
}

/** @param draws  mean rewards */
export function noiseFloorOf(draws: readonly number[]): NoiseFloor {
  const { mean, standardError, sampleDeviation: s } = spread(draws);
  if (standardError === null || s === null) {
    const alone = { low: null, high: null, standardError: null };
    return { draws, mean: { value: mean, ...alone }, deviation: { value: null, ...alone }, range: null };
  }
  const t = studentQuantile((1 + FLOOR_SHARE) / 2, draws.length - 1);
  const reach = t * s * Math.sqrt(1 + 1 / draws.length);
  return {
    draws,
    mean: { value: mean, low: mean - t * standardError, high: mean + t * standardError, standardError },
    deviation: jackknife({
      prompts: draws.length,
      at: (left) => (left === NONE ? s : spread(draws.filter((_, k) => k !== left)).sampleDeviation),
    }),
    range: { low: mean - reach, high: mean + reach },
  };
}

/** @param rewards  of the cells without the checkpoint's own, whose reward is one more draw */
export function outsideFloor({ range }: NoiseFloor, rewards: readonly number[]): OutsideFloor {
  if (range === null) return { below: 0, above: 0, cells: rewards.length };
  return {
    below: rewards.filter((reward) => reward < range.low).length,
    above: rewards.filter((reward) => reward > range.high).length,
    cells: rewards.length,
  };
}

const meanReward = (of: readonly (readonly number[])[]): number =>
  of.reduce((sum, prompt) => sum + prompt.reduce((a, b) => a + b, 0) / prompt.length, 0) / of.length;

/** A map's cells, as far as the floor needs them. */
interface MeasuredMap {
  readonly step: number;
  readonly slice: number;
  readonly points: readonly { readonly alpha: number; readonly beta: number; readonly reward: number }[];
}

/**
 * Reads the draws, and writes landscape/noise-floor.json if there are any.
 * @param gap  told what is missing, in a sentence
 */
export function summariseNoise(
  folder: string,
  { shard, landscape: { steps, noiseFloor, rollouts } }: StudySettings,
  maps: readonly MeasuredMap[],
  say: OnDamage,
  gap: (sentence: string) => void,
): { floors: readonly CheckpointFloor[]; maps: readonly FlooredMap[] } {
  if (noiseFloor === 0) return { floors: [], maps: [] };
  if (shard !== "") {
    gap("Noise floor: a shard has none. It is measured when the sweep is continued in the merged folder.");
    return { floors: [], maps: [] };
  }
  const floors = steps.flatMap((step): CheckpointFloor[] => {
    const draws = existsSync(noiseFloorFolder(folder, step)) ? readNoiseDraws(folder, step, say) : [];
    if (draws.length < noiseFloor) gap(`Step ${step}, noise floor: ${draws.length} of ${noiseFloor} draws are made.`);
    const failed = draws.flatMap(({ failed: of }) => of?.flat() ?? []).reduce((sum, one) => sum + one, 0);
    if (failed > 0)
      gap(
        `Step ${step}, noise floor: ${failed} of ${draws.length * rollouts.prompts * rollouts.rollouts} rollouts failed in the ` +
          "environment; they count as reward 0.",
      );
    return draws.length === 0 ? [] : [{ step, ...noiseFloorOf(draws.map(({ reward }) => meanReward(reward))) }];
  });
  const floored = maps.flatMap(({ step, slice, points }): FlooredMap[] => {
    const floor = floors.find((one) => one.step === step);
    if (floor === undefined || floor.range === null) return [];
    const rewards = points.filter(({ alpha, beta }) => alpha !== 0 || beta !== 0).map(({ reward }) => reward);
    return [{ step, slice, ...outsideFloor(floor, rewards) }];
  });
  if (floors.length > 0)
    writeAtomic(
      noiseSummaryPath(folder),
      `${JSON.stringify({ schemaVersion: NOISE_SCHEMA_VERSION, checkpoints: floors, maps: floored }, null, 1)}\n`,
    );
  return { floors, maps: floored };
}
