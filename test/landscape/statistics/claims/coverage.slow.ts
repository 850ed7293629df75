// The table of docs/metrics.md: simulated coverage of the intervals of the claims. Prints it; run this file alone to read
// it.
import * as assert from "uvu/assert";
import { describe } from "../../../support.ts";
import { claimCoverage } from "../../claim-coverage.ts";

const DRAWS = 200;
/** About the lowest coverage that was found, by points per side: of overlaps at 8 prompts, and of R². */
const LEAST: Record<number, number> = { 7: 0.89, 11: 0.88 };

describe("landscape/statistics/claims/coverage, wide", (test) => {
  for (const points of [7, 11])
    for (const field of ["hill", "mixture", "slope"] as const)
      for (const prompts of [8, 16, 32, 64])
        test(`${points} × ${points}, ${field}, ${prompts} prompts`, () => {
          const table = claimCoverage(field, prompts, { points, radius: 0.05 }, DRAWS);
          const percent = (share: number): string => (Number.isNaN(share) ? "–" : `${Math.round(100 * share)}%`);
          for (const { name, truth, coverage, withheld } of table)
            console.log(
              `  ${points} × ${points}, ${field}, ${prompts} prompts: ${name} (${truth.toFixed(2)}) covered ${percent(coverage)}, ` +
                `withheld ${percent(withheld)}`,
            );
          // 200 draws know a share of 89% to 2.2%.
          for (const { name, coverage } of table)
            assert.ok(Number.isNaN(coverage) || coverage >= LEAST[points] - 3 * 0.022, `${name}: ${coverage}`);
        });
});
