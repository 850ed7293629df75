// How often intervals from few prompts contain the truth, on measured maps.
//
//   node bench/landscape/few-prompts.ts RUN [--prompts 3,4,8,16] [--draws 600]
//
// A run's map of all its prompts is taken as the truth. From its prompts and its reference prompts a few are drawn at random,
// without replacement, many times; each time the correlations get their jackknife intervals. Printed, over all maps: the share
// of intervals that contain the truth, of those that a report would show if it did not ask for a number of prompts (intervals.ts), and how
// many it would show. A truth that is itself undetermined is left out. The truth of r, which depends on the number of prompts, is
// the mean of the draws.
import { defineSettings, integer, integers, runCommand, SettingsError } from "../../engine/host/index.ts";
import { readSliceOf } from "../../landscape/files/cells.ts";
import { readRunSettings } from "../../landscape/files/run-settings.ts";
import { cellSums, mapsOfSums } from "../../landscape/statistics/cell-sums.ts";
import { type Estimand, rAtBudget, rInfinity, rWithinRing } from "../../landscape/statistics/estimands.ts";
import { jackknife, jackknifeCorrelation, saysSomething } from "../../landscape/statistics/intervals.ts";
import { NONE, type PromptMaps } from "../../landscape/statistics/prompt-maps.ts";
import { type SimulationRandom, simulationRandom } from "../../landscape/statistics/random.ts";

const settings = defineSettings({
  prompts: integers({
    default: [2, 3, 4, 5, 6, 7, 8, 10, 12, 16],
    min: 2,
    unit: "prompts",
    meaning: "prompts drawn; as many reference prompts, and then half as many",
  }),
  draws: integer({ default: 600, min: 1, unit: "draws", meaning: "random choices of prompts for each map" }),
});

const ESTIMANDS = { r: rAtBudget, "r∞": rInfinity, "within ring": rWithinRing } as const;
type Name = keyof typeof ESTIMANDS;
const NAMES: readonly Name[] = ["r", "r∞", "within ring"];

interface Count {
  draws: number;
  shown: number;
  covered: number;
}

function drawn(set: readonly Float64Array[], count: number, random: SimulationRandom): Float64Array[] {
  const order = [...set];
  for (let k = 0; k < count; k++) {
    const other = k + random.integer(order.length - k);
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order.slice(0, count);
}

/** Adds the draws of one map. */
function count(maps: PromptMaps, prompts: number, reference: number, draws: number, counts: Record<Name, Count>): void {
  const random = simulationRandom(prompts, reference);
  const found: Record<Name, Estimand[]> = { r: [], "r∞": [], "within ring": [] };
  for (let draw = 0; draw < draws; draw++) {
    const few = { ...maps, reward: drawn(maps.reward, prompts, random), kl: drawn(maps.kl, reference, random) };
    for (const name of NAMES) found[name].push(ESTIMANDS[name](few));
  }
  const plain = found.r.map(({ at }) => at(NONE)).filter((value) => value !== null);
  for (const name of NAMES) {
    const truth =
      name === "r"
        ? plain.reduce((sum, value) => sum + value, 0) / plain.length
        : jackknifeCorrelation(ESTIMANDS[name](maps)).value;
    if (truth === null) continue;
    const of = counts[name];
    of.draws += draws;
    for (const estimate of found[name].map((estimand) => jackknife(estimand))) {
      const { low, high } = estimate;
      if (low === null || high === null || !saysSomething(estimate)) continue;
      of.shown++;
      if (low <= truth && truth <= high) of.covered++;
    }
  }
}

await runCommand({
  name: "node bench/landscape/few-prompts.ts",
  summary: "Counts how often intervals from few of a run's prompts contain the value of all of them.",
  settings,
  positional: [{ name: "RUN", meaning: "a run folder with maps of many prompts" }],
  async main({ values, positionals: [folder] }) {
    const { landscape } = await readRunSettings(folder);
    const { points, radius } = landscape;
    const all: PromptMaps[] = [];
    for (const step of landscape.steps)
      for (let slice = 0; slice < landscape.slices; slice++) {
        const read = readSliceOf(folder, { step, slice }, console.error, cellSums);
        if (read !== null && read.cells.length === points ** 2)
          all.push(mapsOfSums(read.cells, read.reference.tokens.length, { points, radius }));
      }
    if (all.length === 0) throw new SettingsError(`${folder}: expected a run with at least one whole map, found none.`);
    console.log(`${all.length} maps of ${all[0].reward.length} prompts and ${all[0].kl.length} reference prompts`);
    console.log("prompts, reference prompts: share of shown intervals that contain the truth (share shown)");
    for (const prompts of values.prompts)
      for (const reference of new Set([prompts, Math.max(2, prompts >> 1)])) {
        const counts = Object.fromEntries(NAMES.map((name) => [name, { draws: 0, shown: 0, covered: 0 }])) as Record<
          Name,
          Count
        >;
        for (const maps of all) count(maps, prompts, reference, values.draws, counts);
        const text = NAMES.map((name) => {
          const { draws, shown, covered } = counts[name];
          const share = (part: number, of: number): string => (of === 0 ? "–" : `${((100 * part) / of).toFixed(0)}%`);
          return `${name} ${share(covered, shown)} (${share(shown, draws)})`;
        });
        console.log(`${String(prompts).padStart(3)}, ${String(reference).padStart(3)}: ${text.join(", ")}`);
      }
  },
});
