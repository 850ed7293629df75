// Made-up rays whose reward and KL by radius are known.
import type { CellRecord } from "../../../../landscape/files/cells.ts";
import { CHECKPOINT, type RayFiles } from "../../../../landscape/files/ray-files.ts";
import type { FieldPoint, RayField } from "../../../../landscape/statistics/rays/ray-field.ts";

export interface RayWorld {
  readonly rays: number;
  readonly prompts: number;
  readonly radii: readonly number[];
  /** Mean reward and KL per token at a signed radius of a ray. */
  reward(radius: number, ray: number): number;
  kl(radius: number, ray: number): number;
  /** Reward of a prompt, given its mean. Default: the mean. */
  draw?(mean: number): number;
}

/** Rays with two halves. A KL below 0 stands for a point that does not exist. */
export function raysOfWorld({ rays, prompts, radii, reward, kl, draw = (mean) => mean }: RayWorld): RayField {
  const tokens = Float64Array.from({ length: prompts }, (_, p) => 10 + p);
  const point = (radius: number, ray: number): FieldPoint => ({
    reward: Float64Array.from({ length: prompts }, () => draw(reward(radius, ray))),
    kl: tokens.map((count) => count * kl(radius, ray)),
  });
  return {
    positions: radii,
    tokens,
    origin: point(0, 0),
    halves: Array.from({ length: rays }, (_, ray) =>
      [1, -1].map((sign) => ({
        ray,
        points: radii.map((radius) => (kl(sign * radius, ray) < 0 ? null : point(sign * radius, ray))),
      })),
    ).flat(),
  };
}

export interface LineWorld extends Pick<RayWorld, "prompts" | "draw"> {
  readonly positions: readonly number[];
  reward(position: number): number;
  kl(position: number): number;
}

/** The files of a line, the checkpoint at position 0 among them. One completion of 10 tokens per prompt. */
export function lineFiles({ prompts, positions, reward, kl, draw = (mean) => mean }: LineWorld): RayFiles {
  const each = (of: () => number): number[][] => Array.from({ length: prompts }, () => [of()]);
  const zeros = (): number[][] => each(() => 0);
  const cell = (at: Pick<CellRecord, "i" | "j" | "alpha" | "beta">): CellRecord => ({
    ...at,
    rollouts: {
      reward: each(() => draw(reward(at.alpha))),
      tokens: each(() => 10),
      entropy: zeros(),
      truncated: zeros(),
    },
    reference: {
      ...{ kl: each(() => 10 * kl(at.alpha)), k1: zeros(), k3: zeros(), objective: zeros(), entropy: zeros() },
    },
  });
  return {
    cells: [cell(CHECKPOINT), ...positions.map((alpha, j) => cell({ i: 0, j, alpha, beta: 0 }))],
    reference: { tokens: each(() => 10), reward: zeros(), advantage: zeros() },
  };
}
