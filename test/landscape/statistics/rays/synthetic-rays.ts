// Made-up rays whose reward and KL by radius are known.
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
