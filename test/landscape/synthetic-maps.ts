// Per-prompt maps with a known truth: fields, rewards and noise of which every estimator's answer is known.

import { type Grid, gridCells } from "../../landscape/grid.ts";
import { mapCorrelation } from "../../landscape/statistics/estimands.ts";
import { centred, NONE, type Projection, type PromptMaps } from "../../landscape/statistics/prompt-maps.ts";
import type { SimulationRandom } from "../../landscape/statistics/random.ts";
import { fieldSampler } from "../../landscape/statistics/random-fields.ts";
import { normalQuantile } from "../../rl/statistics/distributions.ts";

/** Success probability at (a, b) in units of the radius, s the size of the signal. */
export const fields = {
  hill: (a: number, b: number, s: number) => 0.6 - (s * (a * a + b * b)) / 2,
  slope: (a: number, _b: number, s: number) => 0.5 + (s * a) / 2,
  mixture: (a: number, b: number, s: number) => 0.5 + s * (a / 2 - (a * a + b * b) / 4),
};
export type Field = keyof typeof fields;

export interface World {
  grid: Grid;
  prompts: number;
  referencePrompts?: number;
  field: Field;
  signal: number;
  /** "bernoulli": 0 or 1. "partial": each success earns 1, ½ or ¼. */
  rewards?: "bernoulli" | "partial";
  /** Shares of the noise that all cells of a prompt share, and that near cells share; the rest is each cell's own. */
  shared?: number;
  smooth?: number;
  random: SimulationRandom;
}

/** KL of a bowl, tilted so that it is no function of the radius alone; tilt and height differ between prompts. */
const bowl = (a: number, b: number, tilt: number) => 0.05 * (a * a + b * b) * (1 + tilt * a);
const MEAN_TILT = 0.3;

/** Rewards keep their mean field whatever the noise: a success is a standard normal below Φ⁻¹(probability). */
export function drawMaps(world: World): PromptMaps {
  const { grid, field, signal, random, rewards = "bernoulli", shared = 0.4, smooth = 0.3 } = world;
  const cells = gridCells(grid);
  const thresholds = cells.map((cell) =>
    normalQuantile(fields[field](cell.alpha / grid.radius, cell.beta / grid.radius, signal)),
  );
  const near = fieldSampler(grid.points, 2, random);
  const reward = Array.from({ length: world.prompts }, () => {
    const own = Math.sqrt(shared) * random.normal();
    const noise = near();
    const worth = rewards === "bernoulli" ? 1 : [1, 0.5, 0.25][random.integer(3)];
    return Float64Array.from(cells, (_, c) =>
      own + Math.sqrt(smooth) * noise[c] + Math.sqrt(1 - shared - smooth) * random.normal() < thresholds[c] ? worth : 0,
    );
  });
  const kl = Array.from({ length: world.referencePrompts ?? world.prompts }, () => {
    const height = Math.exp(0.5 * random.normal());
    const tilt = MEAN_TILT + 0.3 * random.normal();
    return Float64Array.from(cells, ({ alpha, beta }) => height * bowl(alpha / grid.radius, beta / grid.radius, tilt));
  });
  return { cells, reward, kl, objective: reward.slice(0, kl.length) };
}

/** What r∞ (or within-ring r, by its projection) is in such a world with ever more prompts. */
export function trueCorrelation({ grid, field, signal }: World, projection: Projection = centred): number | null {
  const at = (of: (a: number, b: number) => number) =>
    Float64Array.from(gridCells(grid), ({ alpha, beta }) => of(alpha / grid.radius, beta / grid.radius));
  const kl = at((a, b) => bowl(a, b, MEAN_TILT));
  const reward = at((a, b) => fields[field](a, b, signal));
  return mapCorrelation([kl], [reward], projection, "all").at(NONE);
}
