// From the files of a run folder to its figures and report.html. Needs no GPU, and reads nothing that a resume could change.
//
//   node landscape/report.ts RUN            draws everything again
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { extname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import {
  defineSettings,
  ensureFolder,
  FileError,
  lockFolder,
  MemberFile,
  readJournal,
  readJson,
  readText,
  runCommand,
  settingValue,
  valueText,
  writeAtomic,
} from "../engine/host/index.ts";
import { readProvenance, readRunSettings, runName, type StudySettings } from "./files/run-folder.ts";
import { cellSchema, referenceSchema, summariseSlice } from "./measure/sweep.ts";
import type {
  CellConversations,
  Estimate as Drawn,
  LandscapeMap,
  MapPoint,
  Study,
  TrainingRow,
} from "./report/figures/figure-data.ts";
import { pixelsOf, renderPng } from "./report/figures/png.ts";
import { studyFigures } from "./report/figures/study-figures.ts";
import { renderReport } from "./report/page.ts";
import { summaryTable } from "./report/table.ts";
import { studySettings } from "./settings.ts";
import type { Estimate } from "./statistics/estimands.ts";
import { readPoints } from "./statistics/points.ts";
import type { MeasuredSlice } from "./statistics/summary.ts";

export function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

export function sliceFolder(folder: string, step: number, slice: number): string {
  return join(folder, "landscape", stepName(step), `slice-${slice}`);
}

export function referencePath(folder: string, step: number): string {
  return join(folder, "landscape", stepName(step), "reference.json");
}

/** Makes points.csv and summary.json of every slice that has cells. */
export async function summariseRun(
  folder: string,
  settings: StudySettings,
  signal: AbortSignal,
): Promise<MeasuredSlice[]> {
  const found: MeasuredSlice[] = [];
  for (const step of settings.landscape.steps)
    for (let slice = 0; slice < settings.landscape.slices; slice++) {
      const place = sliceFolder(folder, step, slice);
      if (!existsSync(join(place, "cells.jsonl")) || !existsSync(referencePath(folder, step))) continue;
      await heed(signal);
      const reference = readJson(referencePath(folder, step), referenceSchema);
      found.push({ step, slice, summary: summariseSlice(place, settings, reference, slice) });
    }
  return found;
}

/** Draws figures (SVG, PNG, CSV) and report.html, under the name of the folder. */
export async function drawRun(
  folder: string,
  settings: StudySettings,
  slices: readonly MeasuredSlice[],
  signal: AbortSignal,
): Promise<void> {
  const study: Study = {
    name: runName(folder),
    settings: settingRows(folder, settings),
    notes: settings.notes,
    training: trainingRows(folder),
    maps: slices.map((measured) => mapOf(folder, settings, measured)),
    intervalName: intervalName(slices),
  };
  const place = join(folder, "figures");
  ensureFolder(place);
  const written = new Set<string>();
  for (const draw of studyFigures(study).values()) {
    await heed(signal);
    const { name, svg, csv } = draw();
    const files = { svg, csv, png: renderPng(svg, pixelsOf(180, 200)) };
    for (const [ending, content] of Object.entries(files)) {
      writeAtomic(join(place, `${name}.${ending}`), content);
      written.add(`${name}.${ending}`);
    }
  }
  removeOutdated(place, written);
  writeAtomic(join(folder, "report.html"), renderReport(study));
}

/** Lets Ctrl-C through: nothing here waits for anything, so signals would be heard only at the end. */
async function heed(signal: AbortSignal): Promise<void> {
  await setImmediate();
  signal.throwIfAborted();
}

/** Figures are named otherwise when a run has several slices: those of the same subjects that were not drawn now go. */
function removeOutdated(place: string, written: ReadonlySet<string>): void {
  const subject = (file: string): string => file.slice(0, -extname(file).length).replace(/-slice-\d+$/, "");
  const subjects = new Set([...written].map(subject));
  for (const file of readdirSync(place))
    if (!written.has(file) && /\.(svg|csv|png)$/.test(file) && subjects.has(subject(file))) rmSync(join(place, file));
}

/** An interval is called by its share only where simulated coverage bears that out. */
function intervalName(slices: readonly MeasuredSlice[]): string {
  const coverages = slices.flatMap(({ summary }) => (summary.coverage === null ? [] : [summary.coverage.r.coverage]));
  const least = Math.min(...coverages.filter((c) => c !== null), 1);
  return coverages.length > 0 && least >= 0.9
    ? "95% jackknife interval over prompts"
    : `jackknife interval over prompts (simulated coverage from ${(100 * least).toFixed(0)}%)`;
}

/** The settings that shaped the results; what was given as a path goes by its name. */
function settingRows(folder: string, settings: StudySettings): { key: string; value: string }[] {
  const { model, names } = readProvenance(folder);
  const given = [...studySettings.byKey]
    .filter(([key, setting]) => !setting.isFree && studySettings.applies(key, settings))
    .map(([key]) => ({ key, value: valueText(settingValue(settings, key)) }));
  return [
    { key: "model", value: model.isEmbedded ? "the one that comes with the program" : model.name },
    { key: "names", value: names === null ? "the built-in generator" : names.name },
    ...given,
  ];
}

const metricsLine = z.object({
  step: z.number(),
  reward: z.number().nullish(),
  "eval/reward": z.number().nullish(),
  "eval/reward_standard_error": z.number().nullish(),
});

function trainingRows(folder: string): TrainingRow[] {
  const path = join(folder, "metrics.jsonl");
  if (!existsSync(path)) return [];
  return readText(path)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const row = metricsLine.parse(JSON.parse(line));
      return {
        step: row.step,
        reward: row.reward ?? null,
        evalReward: row["eval/reward"],
        evalRewardError: row["eval/reward_standard_error"],
      };
    });
}

function drawn({ value, low, high }: Estimate): Drawn {
  return value === null ? null : { value, low, high };
}

function mapOf(folder: string, settings: StudySettings, { step, slice, summary }: MeasuredSlice): LandscapeMap {
  const place = sliceFolder(folder, step, slice);
  const path = join(place, "points.csv");
  const points: MapPoint[] = readPoints(readFileSync(path, "utf8"), path).map((p) => ({
    i: p.i,
    j: p.j,
    alpha: p.alpha,
    beta: p.beta,
    reward: p.reward,
    rewardError: Number.isNaN(p.reward_error) ? null : p.reward_error,
    klToken: p.kl_token,
    objective: p.j_group_token,
  }));
  if (points.length === 0) throw new FileError(`${path}: holds no point`);
  return {
    step,
    slice,
    n: settings.landscape.points,
    radius: settings.landscape.radius,
    points,
    summary: {
      r: drawn(summary.r),
      rInfinity: drawn(summary.rInfinity),
      withinRing: drawn(summary.withinRing),
      originReward: summary.origin?.reward ?? Number.NaN,
      originRewardError: summary.origin?.reward_error ?? null,
      floorShare: summary.floor.share,
      promptsToDetermine: summary.determined.promptsNeeded,
      further: [
        { name: "KL at mid-edges", value: summary.klAtMidEdges },
        { name: "KL at corners", value: summary.klAtCorners },
        { name: "groups with advantages", value: `${summary.advantages.nonZero} of ${summary.advantages.groups}` },
      ],
    },
    conversations: conversationsOf(place),
  };
}

const conversationLine = z.object({
  reward: z.number(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
});

function conversationsOf(place: string): CellConversations[] {
  const { records } = readJournal(join(place, "cells.jsonl"), cellSchema);
  const { members } = MemberFile.open(
    join(place, "rollouts.jsonl.gz"),
    records.map(({ conversationBytes }) => conversationBytes),
  );
  try {
    return records.map(({ i, j }, index) => ({
      i,
      j,
      conversations: members
        .read(index)
        .toString("utf8")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => conversationLine.parse(JSON.parse(line))),
    }));
  } finally {
    members.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await runCommand({
    name: "node landscape/report.ts",
    summary: "Draws the figures and report.html of a run folder again, from its files alone.",
    settings: defineSettings({}),
    positional: [{ name: "RUN", meaning: "the run folder", required: true }],
    examples: [["node landscape/report.ts runs/tiny", "writes runs/tiny/report.html and runs/tiny/figures"]],
    main: async ({ positionals: [folder], progress, signal }) => {
      const path = join(folder, "config.toml");
      if (!existsSync(path)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
      const release = lockFolder(folder);
      try {
        const settings = await readRunSettings(folder);
        const slices = await summariseRun(folder, settings, signal);
        await drawRun(folder, settings, slices, signal);
        if (slices.length > 0) process.stdout.write(`${summaryTable(slices)}\n`);
        progress.line(`Report: ${join(folder, "report.html")}`);
      } finally {
        release();
      }
    },
  });
