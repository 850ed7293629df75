// The wider table behind docs and reports: coverage of the determined intervals of r∞ and within-ring r, share undetermined, over
// fields, rewards, prompts and sizes of the signal, on 7 × 7 cells. Prints the table; run this file alone to read it.
import * as assert from "uvu/assert";
import { gridCells } from "../../../landscape/grid.ts";
import { simulateCoverage } from "../../../landscape/statistics/coverage.ts";
import { type Estimand, rInfinity, rWithinRing } from "../../../landscape/statistics/estimands.ts";
import { jackknifeCorrelation } from "../../../landscape/statistics/intervals.ts";
import { centredInRings, type PromptMaps } from "../../../landscape/statistics/prompt-maps.ts";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import { describe } from "../../support.ts";
import { drawMaps, trueCorrelation, type World } from "../synthetic-maps.ts";

const grid = { points: 7, radius: 0.05 };
const DRAWS = 400;

function coverage(world: World, estimand: (maps: PromptMaps) => Estimand, truth: number) {
  let determined = 0;
  let covered = 0;
  for (let draw = 0; draw < DRAWS; draw++) {
    const { low, high } = jackknifeCorrelation(estimand(drawMaps(world)));
    if (low === null || high === null) continue;
    determined++;
    if (low <= truth && truth <= high) covered++;
  }
  return { coverage: covered / determined, undetermined: 1 - determined / DRAWS, determined };
}

function median(values: (number | null | undefined)[]): number | null {
  const known = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  return known[known.length >> 1] ?? null;
}

describe("landscape/coverage, wide", (test) => {
  const rings = centredInRings(gridCells(grid));
  for (const field of ["hill", "slope", "mixture"] as const)
    for (const rewards of ["bernoulli", "partial"] as const)
      for (const prompts of [16, 64, 256])
        for (const signal of [0.1, 0.4])
          test(`${field}, ${rewards}, ${prompts} prompts, signal ${signal}`, () => {
            const world = (seed: number): World => ({
              grid,
              field,
              rewards,
              prompts,
              referencePrompts: Math.min(32, prompts),
              signal,
              random: simulationRandom(seed, prompts),
            });
            const truth = trueCorrelation(world(1)) ?? Number.NaN;
            const free = coverage(world(1), rInfinity, truth);
            const ringTruth = trueCorrelation(world(1), rings);
            const ring = ringTruth === null ? null : coverage(world(2), rWithinRing, ringTruth);
            const fits = Array.from({ length: 5 }, (_, seed) => simulateCoverage(drawMaps(world(3 + seed)), { seed }));
            const foretold = median(fits.map((fit) => fit?.rInfinity.coverage));
            const ringForetold = median(fits.map((fit) => fit?.withinRing.coverage));
            const percent = (share: number | null | undefined) => (share == null ? "–" : `${Math.round(100 * share)}%`);
            console.log(
              `\n  ${field}, ${rewards}, ${prompts} prompts, signal ${signal}: r∞ ${truth.toFixed(2)} ` +
                `covered ${percent(free.coverage)} (foretold ${percent(foretold)}), undetermined ${percent(free.undetermined)}; within ring ` +
                `covered ${percent(ring?.coverage)} (foretold ${percent(ringForetold)}), ` +
                `undetermined ${percent(ring?.undetermined)}`,
            );
            if (prompts < 64) return; // so few prompts make no promise: the line above is what there is
            // 88% is what such maps were found to give; a share of n draws is known to √(0.88 · 0.12 / n): three of
            // those.
            const least = 0.88 - 3 * Math.sqrt((0.88 * 0.12) / free.determined);
            assert.ok(free.coverage >= least, `covered ${free.coverage}, determined ${free.determined}`);
            if (signal < 0.4) return;
            assert.ok(free.undetermined <= 0.02, String(free.undetermined));
            assert.ok(Math.abs((foretold ?? 9) - free.coverage) <= 0.08, `foretold ${foretold}, was ${free.coverage}`);
            // KL within rings is a weak signal, and 32 reference prompts bias r∞ upwards by more than the interval when
            // the reward is known well: coverage falls to 80%. What must hold is that the simulation says so.
            if (ring !== null)
              assert.ok(
                Math.abs((ringForetold ?? 9) - ring.coverage) <= 0.08,
                `foretold ${ringForetold}, was ${ring.coverage}`,
              );
          });
});
