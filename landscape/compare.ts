// Several runs side by side, as Markdown: rewards, correlations of every map with their intervals, and how r changes from the
// first swept checkpoint on, paired over prompts. Reads run folders; needs no GPU.
//
//   node landscape/compare.ts runs/tiny-100 runs/tiny-101 runs/tiny-102
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import {
  defineSettings,
  FileError,
  readJournal,
  readJson,
  readText,
  readTomlFile,
  resolveSettings,
  runCommand,
} from "../engine/host/index.ts";
import type { StudySettings } from "./files/run-folder.ts";
import { cellSchema, referenceSchema } from "./measure/sweep.ts";
import { referencePath, sliceFolder } from "./report.ts";
import { studySettings } from "./settings.ts";
import { difference, type Estimate, jackknife, type PromptMaps, rAtBudget, rInfinity } from "./statistics/estimands.ts";
import { type CellRecord, promptMaps } from "./statistics/points.ts";
import { type Summary, summarise } from "./statistics/summary.ts";

interface Swept {
  step: number;
  slice: number;
  maps: PromptMaps;
  summary: Summary;
  /** J − J(0,0) differs over the cells. */
  objectiveSpread: number;
}

interface ComparedRun {
  name: string;
  settings: StudySettings;
  evaluations: { step: number; reward: number; standardError: number }[];
  swept: Swept[];
}

const evaluated = z.object({ step: z.number(), "eval/reward": z.number(), "eval/reward_standard_error": z.number() });

function readRun(folder: string): ComparedRun {
  const config = join(folder, "config.toml");
  if (!existsSync(config)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
  const settings = resolveSettings(studySettings, [readTomlFile(studySettings, config)]);
  const evaluations = readText(join(folder, "metrics.jsonl"))
    .split("\n")
    .filter((line) => line.includes("eval/reward"))
    .map((line) => evaluated.parse(JSON.parse(line)))
    .map((row) => ({ step: row.step, reward: row["eval/reward"], standardError: row["eval/reward_standard_error"] }));
  const { steps, slices, points, radius, seed, simulations } = settings.landscape;
  const grid = { points, radius };
  const swept: Swept[] = [];
  for (const step of steps)
    for (let slice = 0; slice < slices; slice++) {
      const path = join(sliceFolder(folder, step, slice), "cells.jsonl");
      if (!existsSync(path)) continue;
      const cells: CellRecord[] = readJournal(path, cellSchema).records;
      const reference = readJson(referencePath(folder, step), referenceSchema);
      const maps = promptMaps(cells, reference, grid);
      const summary = summarise(cells, reference, { grid, seed: seed * 1000 + slice, simulations });
      const objectives = maps.cells.map(
        (_, cell) => maps.objective.reduce((sum, map) => sum + map[cell], 0) / maps.objective.length,
      );
      const highest = objectives.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
      const lowest = objectives.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
      swept.push({ step, slice, maps, summary, objectiveSpread: highest - lowest });
    }
  return { name: basename(folder), settings, evaluations, swept };
}

const number = (value: number | null | undefined, digits = 2): string =>
  value === null || value === undefined ? "undetermined" : value.toFixed(digits).replace("-", "−");

function estimate({ value, low, high }: Estimate): string {
  const interval = low === null || high === null ? "" : ` [${number(low)}, ${number(high)}]`;
  return `${number(value)}${value === null ? "" : interval}`;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

function rewardTable(runs: readonly ComparedRun[]): string {
  const steps = [...new Set(runs.flatMap(({ evaluations }) => evaluations.map(({ step }) => step)))].sort(
    (a, b) => a - b,
  );
  return table(
    ["run", "training seed", ...steps.map((step) => `step ${step}`)],
    runs.map(({ name, settings, evaluations }) => [
      name,
      String(settings.train.seed),
      ...steps.map((step) => {
        const found = evaluations.find((row) => row.step === step);
        return found === undefined ? "" : `${number(found.reward, 3)} ± ${number(found.standardError, 3)}`;
      }),
    ]),
  );
}

function mapTable(runs: readonly ComparedRun[]): string {
  return table(
    [
      "run",
      "step",
      "slice",
      "R(0,0)",
      "r",
      "r∞",
      "within ring",
      "KL mid-edge",
      "KL corner",
      "A ≠ 0",
      "spread of J",
      "floor",
    ],
    runs.flatMap(({ name, swept }) =>
      swept.map(({ step, slice, summary, objectiveSpread }) => [
        name,
        String(step),
        String(slice),
        number(summary.originReward?.value),
        estimate(summary.r),
        estimate(summary.rInfinity),
        estimate(summary.withinRing),
        number(summary.klAtMidEdges, 4),
        number(summary.klAtCorners, 4),
        `${summary.advantages.nonZero}/${summary.advantages.groups}`,
        number(objectiveSpread, 3),
        `${(100 * summary.floor.share).toFixed(0)}%`,
      ]),
    ),
  );
}

/** Simulated coverage of each map's intervals: below 90% an interval is not called a 95% one. */
function coverageTable(runs: readonly ComparedRun[]): string {
  const share = (value: number | null | undefined): string =>
    value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)}%`;
  return table(
    ["run", "step", "slice", "r", "r∞", "within ring", "prompts to determine"],
    runs.flatMap(({ name, swept }) =>
      swept.map(({ step, slice, summary: { coverage, determined } }) => [
        name,
        String(step),
        String(slice),
        share(coverage?.r.coverage),
        share(coverage?.rInfinity.coverage),
        share(coverage?.withinRing.coverage),
        determined.promptsNeeded === null ? "–" : String(determined.promptsNeeded),
      ]),
    ),
  );
}

/** How r and r∞ change from the first swept step on: the same Gaussians, prompts and noise, so paired over prompts. */
function changeTable(runs: readonly ComparedRun[]): string {
  const rows = runs.flatMap(({ name, swept }) => {
    const first = swept.reduce((least, { step }) => Math.min(least, step), Number.POSITIVE_INFINITY);
    return swept
      .filter(({ step }) => step !== first)
      .map(({ step, slice, maps }) => {
        const start = swept.find((one) => one.step === first && one.slice === slice);
        if (start === undefined) return [name, `${first} → ${step}`, String(slice), "–", "–"];
        const change = (of: typeof rAtBudget): string => estimate(jackknife(difference(of(maps), of(start.maps))));
        return [name, `${first} → ${step}`, String(slice), change(rAtBudget), change(rInfinity)];
      });
  });
  return table(["run", "steps", "slice", "change of r", "change of r∞"], rows);
}

await runCommand({
  name: "node landscape/compare.ts",
  summary: "Rewards and correlations of several runs side by side, as Markdown on standard output.",
  settings: defineSettings({}),
  positional: [{ name: "RUN", meaning: "run folders", required: true, many: true }],
  examples: [["node landscape/compare.ts runs/tiny-100 runs/tiny-101 > compared.md", "two runs, in a file"]],
  main: async ({ positionals }) => {
    const runs = positionals.map(readRun);
    const parts = [
      "### Reward on the evaluation episodes\n",
      rewardTable(runs),
      "\n### Maps\n",
      mapTable(runs),
      "\n### Changes, paired over prompts\n",
      changeTable(runs),
      "\n### Simulated coverage of the intervals\n",
      coverageTable(runs),
    ];
    process.stdout.write(`${parts.join("\n")}\n`);
  },
});
