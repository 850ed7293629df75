// From the files of a run folder to its figures and report.html. Needs no GPU, and reads nothing that a resume could change.
//
//   node landscape/report.ts RUN            draws everything again
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import {
  defineSettings,
  ensureFolder,
  MemberFile,
  openJournal,
  readJson,
  readText,
  readTomlFile,
  resolveSettings,
  runCommand,
  settingValue,
  valueText,
  writeAtomic,
} from "../engine/host/index.ts";
import { FileError } from "../engine/index.ts";
import type { Estimate } from "./estimands.ts";
import type {
  CellConversations,
  Estimate as Drawn,
  LandscapeMap,
  MapPoint,
  Study,
  TrainingRow,
} from "./figures/figure-data.ts";
import { pixelsOf, renderPng } from "./figures/png.ts";
import { studyFigures } from "./figures/study-figures.ts";
import { readPoints } from "./points.ts";
import { renderReport } from "./report-page.ts";
import type { StudySettings } from "./run-folder.ts";
import { studySettings } from "./settings.ts";
import type { Summary } from "./summary.ts";
import { cellSchema, referenceSchema, summariseSlice } from "./sweep.ts";

export function stepName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

export function sliceFolder(folder: string, step: number, slice: number): string {
  return join(folder, "landscape", stepName(step), `slice-${slice}`);
}

export function referencePath(folder: string, step: number): string {
  return join(folder, "landscape", stepName(step), "reference.json");
}

export interface MeasuredSlice {
  step: number;
  slice: number;
  summary: Summary;
}

/** Makes points.csv and summary.json of every slice that has cells. */
export function summariseRun(folder: string, settings: StudySettings): MeasuredSlice[] {
  const found: MeasuredSlice[] = [];
  for (const step of settings.landscape.steps)
    for (let slice = 0; slice < settings.landscape.slices; slice++) {
      const place = sliceFolder(folder, step, slice);
      if (!existsSync(join(place, "cells.jsonl")) || !existsSync(referencePath(folder, step))) continue;
      const reference = readJson(referencePath(folder, step), referenceSchema);
      found.push({ step, slice, summary: summariseSlice(place, settings, reference, slice) });
    }
  return found;
}

/** Draws figures (SVG, PNG, CSV) and report.html. */
export function drawRun(
  folder: string,
  settings: StudySettings,
  slices: readonly MeasuredSlice[],
  notes: readonly string[],
): void {
  const study: Study = {
    name: settings.out.split(/[\\/]/).filter(Boolean).at(-1) ?? "study",
    settings: settingRows(settings),
    notes,
    training: trainingRows(folder),
    maps: slices.map((measured) => mapOf(folder, settings, measured)),
    intervalName: intervalName(slices),
  };
  const place = join(folder, "figures");
  ensureFolder(place);
  for (const draw of studyFigures(study).values()) {
    const { name, svg, csv } = draw();
    writeAtomic(join(place, `${name}.svg`), svg);
    writeAtomic(join(place, `${name}.csv`), csv);
    writeAtomic(join(place, `${name}.png`), renderPng(svg, pixelsOf(180, 200)));
  }
  writeAtomic(join(folder, "report.html"), renderReport(study));
}

/** An interval is called by its share only where simulated coverage bears that out. */
function intervalName(slices: readonly MeasuredSlice[]): string {
  const coverages = slices.flatMap(({ summary }) => (summary.coverage === null ? [] : [summary.coverage.r.coverage]));
  const least = Math.min(...coverages.filter((c) => c !== null), 1);
  return coverages.length > 0 && least >= 0.9
    ? "95% jackknife interval over prompts"
    : `jackknife interval over prompts (simulated coverage from ${(100 * least).toFixed(0)}%)`;
}

function settingRows(settings: StudySettings): { key: string; value: string }[] {
  return [...studySettings.byKey]
    .filter(([, setting]) => !setting.isFree)
    .map(([key]) => ({ key, value: valueText(settingValue(settings, key)) }));
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
  const { journal, records } = openJournal(join(place, "cells.jsonl"), cellSchema);
  journal.close();
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

/** What the report of the tiny study must say plainly; of another study nothing is known beforehand. */
export function notesOf(folder: string, settings: StudySettings): string[] {
  if (settings.model.path !== "") return [];
  const first = trainingRows(folder).find(({ step }) => step === 0)?.evalReward;
  return [
    "The low reward at step 0 is engineered: in the supervised warm start four of five turns left off the tags that the task asks for, so that there is something to learn.",
    `Reward at step 0 is ${first?.toFixed(2) ?? "about 0.17"} here; the study's model began at 0.01 to 0.02.`,
    "There is one warm start: every training seed begins from the same weights.",
    "The recipe (learning rate, steps, sizes) was chosen on other episodes, seeds and noise than those shown.",
    "A model of 122,624 parameters on a small task is a demonstration of the instrument. It says nothing about large models.",
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await runCommand({
    name: "node landscape/report.ts",
    summary: "Draws the figures and report.html of a run folder again, from its files alone.",
    settings: defineSettings({}),
    positional: [{ name: "RUN", meaning: "the run folder", required: true }],
    main: async ({ positionals: [folder], progress }) => {
      const path = join(folder, "config.toml");
      if (!existsSync(path)) throw new FileError(`${folder}: expected a run folder, it has no config.toml.`);
      const settings = { ...resolveSettings(studySettings, [readTomlFile(studySettings, path)]), out: folder };
      drawRun(folder, settings, summariseRun(folder, settings), notesOf(folder, settings));
      progress.line(`Report: ${join(folder, "report.html")}`);
    },
  });
