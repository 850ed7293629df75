// Several runs side by side, as Markdown: the settings that differ, rewards, correlations of every map with their intervals, and how r changes from the
// first swept checkpoint on, paired over prompts. Reads run folders; needs no GPU.
import { basename } from "node:path";
import { defineSettings, type OnDamage, runCommand } from "../../engine/host/index.ts";
import { metricsPath, reachOfMean, readMetrics } from "../../rl/index.ts";
import { readRunSettings } from "../files/run-settings.ts";
import { readSliceFacts, type SliceFacts, unreachedText } from "../files/slice-facts.ts";
import type { StudySettings } from "../settings.ts";
import { difference, type Estimand, rAtBudget, rInfinity } from "../statistics/estimands.ts";
import { CORRELATION_CHANGES, type Estimate, jackknifeCorrelation } from "../statistics/intervals.ts";
import { meanMap, type PromptMaps } from "../statistics/prompt-maps.ts";
import type { PromptNeed } from "../statistics/signal.ts";
import { readSummarisedSlice } from "../statistics/summarise-slice.ts";
import type { Summary } from "../statistics/summary.ts";
import { extentOf } from "./figures/figure-data.ts";
import { differingSettings } from "./setting-rows.ts";
import { fixed, intervalName, NO_INTERVAL, noIntervalSentences, TERMS } from "./wording.ts";

interface Swept {
  step: number;
  slice: number;
  maps: PromptMaps;
  summary: Summary;
  facts: SliceFacts | null;
  /** J − J(0,0) differs over the cells. */
  objectiveSpread: number;
}

interface ComparedRun {
  name: string;
  settings: StudySettings;
  /** `reach` is half the width of the 95% interval: Student's t over the episodes. */
  evaluations: { step: number; reward: number; reach: number | null }[];
  swept: Swept[];
}

async function readRun(folder: string, say: OnDamage): Promise<ComparedRun> {
  const settings = await readRunSettings(folder);
  // Maps around given checkpoints have no training.
  const rows = settings.checkpoints.length > 0 ? [] : readMetrics(metricsPath(folder), say);
  const evaluations = rows.flatMap((row) => {
    const [reward, standardError] = [row["eval/reward"], row["eval/reward_standard_error"]];
    return typeof reward === "number" && typeof standardError === "number"
      ? [{ step: row.step, reward, reach: reachOfMean(standardError, settings.evaluate.episodes) }]
      : [];
  });
  const { steps, slices, points } = settings.landscape;
  const swept: Swept[] = [];
  for (const step of steps)
    for (let slice = 0; slice < slices; slice++) {
      const read = readSummarisedSlice(folder, { step, slice }, settings, say);
      const measured = read?.cells.length ?? 0;
      const gap = readSliceFacts(folder, { step, slice }, () => {});
      const unreached = gap === null ? null : unreachedText(gap);
      if (unreached !== null) say(`Incomplete: ${folder}, step ${step}, slice ${slice}: ${unreached}.`);
      else if (measured < points ** 2)
        say(`Incomplete: ${folder}, step ${step}, slice ${slice}: ${measured} of ${points ** 2} cells are measured.`);
      if (read === null) continue;
      const { summary, maps } = read;
      const [least, most] = extentOf(meanMap(maps.objective)) ?? [Number.NaN, Number.NaN];
      const facts = readSliceFacts(folder, { step, slice }, say);
      swept.push({ step, slice, maps, summary, facts, objectiveSpread: most - least });
    }
  return { name: basename(folder), settings, evaluations, swept };
}

const number = (value: number | null | undefined, digits = 2): string =>
  value === null || value === undefined ? "undetermined" : fixed(value, digits);

function estimate({ value, low, high }: Estimate): string {
  if (value === null) return number(value);
  return `${number(value)} ${low === null || high === null ? NO_INTERVAL : `[${number(low)}, ${number(high)}]`}`;
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
        if (found === undefined) return "";
        return `${number(found.reward, 3)}${found.reach === null ? "" : ` ± ${number(found.reach, 3)}`}`;
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

/** How directions were scaled to a KL at the edge; nothing if no run asks for one. */
function scalePart(runs: readonly ComparedRun[]): string[] {
  const rows = runs.flatMap(({ name, swept }) =>
    swept.flatMap(({ step, slice, facts }) => {
      const scaled = facts?.fixedKl;
      if (scaled === undefined) return [];
      const axes = [scaled.delta, scaled.eta].flatMap(({ scale, kl, passes }) => [
        scale === null ? "not reached" : scale.toPrecision(3),
        number(kl, 4),
        String(passes.length),
      ]);
      return [[name, String(step), String(slice), String(scaled.target), ...axes]];
    }),
  );
  if (rows.length === 0) return [];
  const axis = (letter: string): string[] => [`scale of ${letter}`, `KL at the edge of ${letter}`, "passes"];
  return [
    "\n### Directions scaled to a KL at the edge\n",
    table(["run", "step", "slice", "KL asked for", ...axis("δ"), ...axis("η")], rows),
    "\nScale: what the direction at its norm was multiplied by. KL: nats per token, at α or β = landscape.radius.",
  ];
}

/** Simulated coverage of each map's intervals: below 90% it is not called a 95% interval. */
function coverageTable(runs: readonly ComparedRun[]): string {
  const share = (value: number | null | undefined): string =>
    value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)}%`;
  const need = ({ used, needed, isLowerBound }: PromptNeed): string =>
    needed === null ? `– (${used})` : `${isLowerBound ? "at least " : ""}${needed} (${used})`;
  return table(
    ["run", "step", "slice", "r", "r∞", "within ring", "prompts for R (used)", "reference prompts for KL (used)"],
    runs.flatMap(({ name, swept }) =>
      swept.map(({ step, slice, summary: { coverage, determined } }) => [
        name,
        String(step),
        String(slice),
        share(coverage?.r.coverage),
        share(coverage?.rInfinity.coverage),
        share(coverage?.withinRing.coverage),
        need(determined.rInfinity.rollouts),
        need(determined.rInfinity.reference),
      ]),
    ),
  );
}

/**
 * The change of r and r∞ since the first swept step. Gaussians, prompts and noise are the same, so it is paired over
 * prompts.
 */
function changeTable(runs: readonly ComparedRun[]): string {
  const rows = runs.flatMap(({ name, swept }) => {
    const first = Math.min(...swept.map(({ step }) => step));
    return swept
      .filter(({ step }) => step !== first)
      .map(({ step, slice, maps, summary }) => {
        const start = swept.find((one) => one.step === first && one.slice === slice);
        if (start === undefined) return [name, `${first} → ${step}`, String(slice), "–", "–"];
        const change = (of: (maps: PromptMaps) => Estimand, name: "r" | "rInfinity"): string =>
          summary[name].value === null || start.summary[name].value === null
            ? "undetermined"
            : estimate(jackknifeCorrelation(difference(of(maps), of(start.maps)), CORRELATION_CHANGES));
        return [name, `${first} → ${step}`, String(slice), change(rAtBudget, "r"), change(rInfinity, "rInfinity")];
      });
  });
  return table(["run", "steps", "slice", "change of r", "change of r∞"], rows);
}

/** The settings in which the runs differ; nothing for one run. */
function settingsPart(runs: readonly ComparedRun[]): string[] {
  if (runs.length < 2) return [];
  const differing = differingSettings(runs.map(({ settings }) => settings));
  if (differing.length === 0) return ["### Settings that differ\n\nNone: the runs have the same settings.\n"];
  const rows = differing.map(({ key, values }) => [
    key,
    ...values.map((value) => (value === null ? "–" : `\`${value}\``)),
  ]);
  return [
    "### Settings that differ\n",
    table(["setting", ...runs.map(({ name }) => name)], rows),
    "\nThe other settings are the same in all runs. –: does not apply to this run.\n",
  ];
}

export function compareCommand(): Promise<never> {
  return runCommand({
    name: "node landscape/compare.ts",
    summary:
      "Settings that differ, rewards and correlations of several runs side by side, as Markdown on standard output.",
    settings: defineSettings({}),
    positional: [{ name: "RUN", meaning: "run folders", required: true, many: true }],
    examples: [["node landscape/compare.ts runs/tiny-100 runs/tiny-101 > compared.md", "two runs, in a file"]],
    main: async ({ positionals, progress }) => {
      process.stdout.write(await comparison(positionals, (message) => progress.line(message)));
    },
  });
}

/**
 * The comparison of these run folders as Markdown. @param say  called for each part that is incomplete or cannot be
 * read
 */
export async function comparison(folders: readonly string[], say: OnDamage): Promise<string> {
  const runs: ComparedRun[] = [];
  for (const folder of folders) runs.push(await readRun(folder, say));
  const swept = runs.flatMap((run) => run.swept);
  const parts = [
    ...settingsPart(runs),
    "### Reward on the evaluation episodes\n",
    rewardTable(runs),
    "\n±: half the width of the 95% interval (Student's t over the evaluation episodes).",
    "\n### Maps\n",
    mapTable(runs),
    `\nIn brackets: the ${intervalName(swept)}. r: ${TERMS.r}. r∞: ${TERMS.rInfinity}. within ring: ${TERMS.withinRing}. ` +
      `undetermined: ${TERMS.undetermined}. KL: ${TERMS.landmarks}. A ≠ 0: ${TERMS.advantages}. ` +
      `spread of J: largest minus smallest J over the map. floor: ${TERMS.floor}.`,
    ...noIntervalSentences(swept),
    ...scalePart(runs),
    "\n### Changes, paired over prompts\n",
    changeTable(runs),
    "\n### Simulated coverage of the intervals\n",
    coverageTable(runs),
    "\nThe last two columns: prompts at which the map's spread would stand out of the noise by two standard errors.",
  ];
  return `${parts.join("\n")}\n`;
}
