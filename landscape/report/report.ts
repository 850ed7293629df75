// Makes statistics, figures and report.html from the files of a run folder. It needs no GPU, changes no measurement,
// and reads nothing that a resume could change. Files that cannot be read are named in the terminal and on the page.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { extname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { ensureFolder, lockFolder, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import {
  environmentDescription,
  hasProvenance,
  metricsPath,
  randomRewardNote,
  reachOfMean,
  readMetrics,
  readProvenance,
  readTrainingSamples,
  runName,
} from "../../rl/index.ts";
import { areUsual } from "../direction-settings.ts";
import { readAlarms } from "../files/alarms.ts";
import { readConversations } from "../files/cells.ts";
import { roundingNotes } from "../files/given-checkpoints.ts";
import { claimsPath, figuresFolder, reportPath } from "../files/layout.ts";
import { readRunSettings } from "../files/run-settings.ts";
import { countEarlier } from "../files/set-aside.ts";
import { readSliceFacts, type SliceFacts, unreachedText } from "../files/slice-facts.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";
import type { Claim, EvaluatedStep } from "../statistics/claims/claim.ts";
import { claimsOf, writeClaims } from "../statistics/claims/claims.ts";
import { pairsOfT3 } from "../statistics/claims/pairs-part.ts";
import { updatesOfT3 } from "../statistics/claims/update-shares.ts";
import type { Estimate } from "../statistics/intervals.ts";
import { type KlFromMap, summariseKlFrom } from "../statistics/kl-from.ts";
import { type CheckpointFloor, type FlooredMap, summariseNoise } from "../statistics/noise-floor.ts";
import {
  type CorrelationTrend,
  type MeanOverSlices,
  meansOverSlices,
  trendsOf,
} from "../statistics/over-checkpoints.ts";
import { type CheckpointPair, summarisePairs } from "../statistics/pairs.ts";
import { linesOfT3 } from "../statistics/rays/lines-part.ts";
import { raysShown } from "../statistics/rays/ray-tables.ts";
import { type RayCheckpoint, summariseRays } from "../statistics/rays/summarise-rays.ts";
import { type RingPoint, ringCurve } from "../statistics/ring-curve.ts";
import { summariseSlice } from "../statistics/summarise-slice.ts";
import type { SummarisedSlice } from "../statistics/summary.ts";
import { readTrajectory } from "../weights/trajectory-plane.ts";
import { readUpdates, updatesToCompute } from "../weights/updates.ts";
import { runText, scaleColumns } from "./edge-scales.ts";
import { embedFonts } from "./figures/embedded-fonts.ts";
import type {
  CellConversations,
  DrawnEstimate,
  LandscapeMap,
  MapPoint,
  SliceMean,
  Study,
  TrainingRow,
  TrainingSample,
} from "./figures/figure-data.ts";
import { renderPdf } from "./figures/pdf.ts";
import { pixelsOf, renderPng } from "./figures/png.ts";
import { studyFigures } from "./figures/study-figures.ts";
import { renderReport } from "./page.ts";
import { settingRows } from "./setting-rows.ts";
import { isStudyLike } from "./study-like.ts";
import { intervalName, noIntervalSentences, reachOf } from "./wording.ts";

/** A run's slices with their statistics. */
export interface SummarisedRun {
  readonly slices: readonly SummarisedSlice[];
  readonly training: readonly TrainingRow[];
  /** Conversations per slice and cell; a cell whose conversations cannot be read is absent. */
  readonly conversations: readonly (readonly CellConversations[])[];
  /** Facts about each slice's directions; null if it has none. */
  readonly directions: readonly (SliceFacts | null)[];
  /** Sample conversations of training steps. */
  readonly samples: readonly TrainingSample[];
  /** What may be concluded from all slices together. */
  readonly claims: readonly Claim[];
  /** Rays and lines around the checkpoints that have them. */
  readonly rays: readonly RayCheckpoint[];
  /** Maps with KL from other checkpoints. */
  readonly klFrom: readonly KlFromMap[];
  /** KL and reward between all pairs of checkpoints, if they are asked for. */
  readonly pairs: readonly CheckpointPair[];
  /** The noise floors of the checkpoints, and the maps against them. */
  readonly noise: { readonly floors: readonly CheckpointFloor[]; readonly maps: readonly FlooredMap[] };
  /** The trend of every slice with several complete checkpoints. */
  readonly trends: readonly CorrelationTrend[];
  /** What only figures show, per slice. */
  readonly extras: readonly SliceExtras[];
  /** Incomplete parts, in sentences without paths: the report must not change when the folder moves. */
  readonly gaps: readonly string[];
}

/** What only figures show of a slice. */
export interface SliceExtras {
  readonly rings: readonly RingPoint[];
  /** The share of rollouts with reward 0 per cell, by "i,j". */
  readonly floorShares: ReadonlyMap<string, number>;
}

/**
 * Reads every slice that has cells, once, and writes its points.csv, summary.json and prompt-maps.json. Changes no measurement.
 * @param say  called for each part that is incomplete or cannot be read
 * @throws FileError when a file is so damaged that its content cannot be trusted
 */
export async function summariseRun(
  folder: string,
  settings: StudySettings,
  say: OnDamage,
  signal: AbortSignal,
): Promise<SummarisedRun> {
  const mixed = hasProvenance(folder) ? readProvenance(folder).mixed : [];
  const slices: SummarisedSlice[] = [];
  const conversations: CellConversations[][] = [];
  const directions: (SliceFacts | null)[] = [];
  const gaps: string[] = [];
  const extras: SliceExtras[] = [];
  const total = shardCells(settings.shard, settings.landscape).length;
  const isTrainedHere = settings.checkpoints.length === 0;
  const training = isTrainedHere ? trainingRows(folder, settings.evaluate.episodes, say) : [];
  const gap = (sentence: string): void => {
    gaps.push(sentence);
    say(`Incomplete: ${sentence}`);
  };
  if (mixed.length > 0)
    gap(
      `Mixed: the cells are of different drivers or versions, whose results differ in the last bits: ${mixed.join("; ")}.`,
    );
  for (const alarm of readAlarms(folder)) gap(alarm);
  if (settings.shard !== "")
    gap(
      `Shard ${settings.shard}: this folder has ${total} of ${settings.landscape.points ** 2} cells of every map. landscape/merge.ts joins the shards.`,
    );
  const wanted = settings.train.steps + 1;
  if (isTrainedHere && training.length < wanted)
    gap(`Training: metrics.jsonl has ${training.length} of ${wanted} steps, step 0 included.`);
  const failed = trainingFailures(folder);
  if (failed > 0)
    gap(
      `Training: ${failed} rollouts failed in the environment and are left out (completions/failed and ` +
        "eval/completions/failed in metrics.jsonl, the reasons in rollouts/).",
    );
  const samples = readTrainingSamples(folder, sampledSteps(settings, training), say);
  for (const { step, conversations: said } of samples)
    if (said.length === 0) gap(`Training: the sample conversations of step ${step} cannot be read.`);
  for (const step of settings.landscape.steps)
    for (let slice = 0; slice < settings.landscape.slices; slice++) {
      await heed(signal);
      const summarised = summariseSlice(folder, { step, slice }, settings, say);
      const measured = summarised?.cells.length ?? 0;
      const earlier = countEarlier(folder, { step, slice });
      const own = readSliceFacts(folder, { step, slice }, () => {});
      const unreached = own === null ? null : unreachedText(own);
      if (unreached !== null) {
        gap(`Step ${step}, slice ${slice}: ${unreached}.`);
        continue;
      }
      if (measured < total)
        gap(
          `Step ${step}, slice ${slice}: ${measured} of ${total} cells are measured.${
            earlier === 0
              ? ""
              : ` The map is growing: ${earlier} cells of the smaller one are kept until the sweep has made them again.`
          }`,
        );
      if (summarised === null) continue;
      const { cells } = summarised;
      const failures = cells.reduce((sum, { failed }) => sum + failed, 0);
      if (failures > 0)
        gap(
          `Step ${step}, slice ${slice}: ${failures} rollouts in ${cells.filter(({ failed }) => failed > 0).length} cells ` +
            "failed in the environment; they count as reward 0.",
        );
      slices.push(summarised);
      const facts = readSliceFacts(folder, { step, slice }, say);
      directions.push(facts);
      if (facts === null && !areUsual(settings.landscape.directions, settings.landscape.centre))
        gap(
          `Step ${step}, slice ${slice}: slice.json is missing or damaged, so its directions are not shown, and partial ` +
            "correlations take α² + β² for the distance.",
        );
      extras.push({
        rings: ringCurve(summarised.maps),
        floorShares: new Map(cells.map(({ i, j, floorShare }) => [`${i},${j}`, floorShare])),
      });
      const said = readConversations(summarised, say);
      const lost = said.filter((cell) => cell === null).length;
      if (lost > 0)
        gap(`Step ${step}, slice ${slice}: the conversations of ${lost} of ${measured} cells cannot be read.`);
      conversations.push(
        cells.flatMap(({ i, j }, index) => {
          const cell = said[index];
          return cell === null ? [] : [{ i, j, conversations: cell }];
        }),
      );
    }
  const noise = summariseNoise(folder, settings, slices, say, gap);
  const rays = summariseRays(folder, settings, say, gap);
  const missing = updatesToCompute(folder, settings);
  if (missing.length > 0)
    gap(`Updates between checkpoints: ${missing.length} are not computed (landscape.updates.rank).`);
  const klFrom = summariseKlFrom(folder, settings, slices, say, gap);
  const pairs = summarisePairs(folder, settings, slices, say, gap);
  const claims = claimsOf(slices, {
    evaluations: evaluationsOf(training),
    isStudyLike: isStudyLike(settings),
    explorationParts: [
      ...linesOfT3(rays),
      ...pairsOfT3(pairs),
      ...updatesOfT3(readUpdates(folder, settings), settings.landscape.updates.rank),
    ],
  });
  if (claims.length > 0) writeAtomic(claimsPath(folder), writeClaims(claims));
  return {
    slices,
    training,
    conversations,
    samples,
    claims,
    trends: trendsOf(slices),
    extras,
    directions,
    rays,
    klFrom,
    noise,
    pairs,
    gaps,
  };
}

/** What figures and page show of a run. */
export function studyOf(folder: string, settings: StudySettings, run: SummarisedRun): Study {
  const {
    slices,
    training,
    conversations,
    samples,
    claims,
    trends,
    gaps,
    extras,
    directions,
    rays,
    klFrom,
    noise,
    pairs,
  } = run;
  const isMixed = hasProvenance(folder) && readProvenance(folder).mixed.length > 0;
  const rewardNote = settings.checkpoints.length === 0 ? randomRewardNote(settings.train) : null;
  return {
    name: runName(folder),
    settings: settingRows(folder, settings),
    task: environmentDescription(settings.environment) ?? undefined,
    gaps,
    notes: [
      ...(rewardNote === null ? [] : [rewardNote]),
      ...settings.notes,
      ...roundingNotes(folder, settings.landscape.steps),
    ],
    training,
    trainingSamples: samples,
    maps: slices.map((measured, index) => ({
      ...mapOf(settings, measured, conversations[index], extras[index], directions[index], isMixed),
      ...noiseFloorOf(noise, measured),
    })),
    sliceMeans: meansOverSlices(slices).map(sliceMeanOf),
    claims,
    rays: raysShown(rays),
    klFrom,
    trajectory: readTrajectory(folder, settings),
    pairs,
    trends,
    intervalName: intervalName(slices),
    noInterval: noIntervalSentences(slices),
  };
}

/** Draws figures (SVG, PDF, PNG, CSV) and report.html, under the name of the folder. */
export async function drawRun(
  folder: string,
  settings: StudySettings,
  run: SummarisedRun,
  signal: AbortSignal,
): Promise<void> {
  const study = studyOf(folder, settings, run);
  const place = figuresFolder(folder);
  ensureFolder(place);
  const written = new Set<string>();
  const write = (name: string, content: string | Uint8Array): void => {
    writeAtomic(join(place, name), content);
    written.add(name);
  };
  // The pictures are drawn on other threads, meanwhile the rest is made here.
  const pictures: Promise<void>[] = [];
  try {
    for (const draw of studyFigures(study).values()) {
      await heed(signal);
      const { name, title, svg, csv } = draw();
      const picture = renderPng(svg, pixelsOf(180, 200)).then((png) => write(`${name}.png`, png));
      picture.catch(() => {}); // thrown below, when all are awaited
      pictures.push(picture);
      write(`${name}.svg`, embedFonts(svg));
      write(`${name}.pdf`, renderPdf(svg, title));
      write(`${name}.csv`, csv);
    }
  } finally {
    await Promise.allSettled(pictures);
  }
  await Promise.all(pictures);
  removeOutdated(place, written);
  writeAtomic(reportPath(folder), renderReport(study));
}

/** Gives Ctrl-C a chance: the code here never waits, so a signal would otherwise be noticed only at the end. */
async function heed(signal: AbortSignal): Promise<void> {
  await setImmediate();
  signal.throwIfAborted();
}

/**
 * Removes outdated figures: a run with several slices names its figures differently, so figures of the same subjects
 * that were not drawn now are deleted.
 */
function removeOutdated(place: string, written: ReadonlySet<string>): void {
  const subject = (file: string): string => file.slice(0, -extname(file).length).replace(/-slice-\d+$/, "");
  const subjects = new Set([...written].map(subject));
  for (const file of readdirSync(place))
    if (!written.has(file) && /\.(svg|pdf|csv|png)$/.test(file) && subjects.has(subject(file)))
      rmSync(join(place, file));
}

function trainingRows(folder: string, episodes: number, onDamage: OnDamage): TrainingRow[] {
  const path = metricsPath(folder);
  if (!existsSync(path)) {
    onDamage(`${path}: missing, so no curves are drawn.`);
    return [];
  }
  return readMetrics(path, onDamage).map((row) => {
    const error = row["eval/reward_standard_error"];
    return {
      step: row.step,
      reward: row.reward ?? null,
      evalReward: row["eval/reward"],
      evalRewardError: error,
      evalRewardReach: typeof error === "number" ? reachOfMean(error, episodes) : null,
      health: row,
    };
  });
}

const evaluationsOf = (training: readonly TrainingRow[]): EvaluatedStep[] =>
  training.flatMap(({ step, evalReward, evalRewardReach }) =>
    typeof evalReward === "number" ? [{ step, reward: evalReward, reach: evalRewardReach ?? null }] : [],
  );

/** Number of rollouts of training and evaluation that the environment did not score. */
function trainingFailures(folder: string): number {
  const path = metricsPath(folder);
  if (!existsSync(path)) return 0;
  return readMetrics(path, () => {}).reduce(
    (sum, row) => sum + (row["completions/failed"] ?? 0) + (row["eval/completions/failed"] ?? 0),
    0,
  );
}

/** The trained steps whose conversations the report shows. */
function sampledSteps({ train: { conversationsEvery } }: StudySettings, training: readonly TrainingRow[]): number[] {
  if (conversationsEvery === 0) return [];
  return training.map(({ step }) => step).filter((step) => step > 0 && step % conversationsEvery === 0);
}

function drawn({ value, low, high }: Estimate): DrawnEstimate {
  return value === null ? null : { value, low, high };
}

/** What a map has of its checkpoint's noise floor; nothing if that is not measured. */
function noiseFloorOf({ floors, maps }: SummarisedRun["noise"], { step, slice }: SummarisedSlice) {
  const floor = floors.find((one) => one.step === step);
  const map = maps.find((one) => one.step === step && one.slice === slice);
  if (floor === undefined) return {};
  const { draws, mean, deviation, range } = floor;
  const { below, above, cells } = map ?? { below: 0, above: 0, cells: 0 };
  return { noiseFloor: { draws, mean: drawn(mean), deviation: drawn(deviation), range, below, above, cells } };
}

/** A mean over too few determined slices for an interval is not drawn. */
function sliceMeanOf({ step, r, rInfinity, withinRing }: MeanOverSlices): SliceMean {
  const known = (estimate: Estimate): DrawnEstimate => (estimate.low === null ? null : drawn(estimate));
  return { step, r: known(r), rInfinity: known(rInfinity), withinRing: known(withinRing) };
}

function mapOf(
  settings: StudySettings,
  { step, slice, summary, points: measured }: SummarisedSlice,
  conversations: readonly CellConversations[],
  { rings, floorShares }: SliceExtras,
  directions: SliceFacts | null,
  isMixed: boolean,
): LandscapeMap {
  const points = measured.map(
    (p): MapPoint => ({
      i: p.i,
      j: p.j,
      alpha: p.alpha,
      beta: p.beta,
      reward: p.reward,
      rewardError: Number.isNaN(p.reward_error) ? null : p.reward_error,
      rewardReach: reachOfMean(p.reward_error, summary.prompts.rollouts),
      klToken: p.kl_token,
      objective: p.j_group_token,
      floorShare: floorShares.get(`${p.i},${p.j}`) ?? null,
    }),
  );
  const { cells, total, isComplete } = summary.grid;
  const marks = [
    ...(isComplete ? [] : [`${cells} of ${total} cells`]),
    ...(isMixed ? ["merged from different drivers or versions"] : []),
  ];
  return {
    step,
    slice,
    n: settings.landscape.points,
    radius: settings.landscape.radius,
    points,
    ...(marks.length === 0 ? {} : { mark: marks.join(", ") }),
    summary: {
      r: drawn(summary.r),
      rInfinity: drawn(summary.rInfinity),
      withinRing: drawn(summary.withinRing),
      originReward: summary.origin?.reward ?? Number.NaN,
      originRewardReach: summary.originReward === null ? null : reachOf(summary.originReward),
      floorShare: summary.floor.share,
      determined: summary.determined,
      further: [
        { name: "KL at mid-edges", value: summary.klAtMidEdges },
        { name: "KL at corners", value: summary.klAtCorners },
        ...scaleColumns(directions),
        { name: "groups with advantages", value: `${summary.advantages.nonZero} of ${summary.advantages.groups}` },
      ],
    },
    rings,
    conversations,
    ...(directions !== null && { directions }),
  };
}

/**
 * Makes statistics, figures and report again from the files of a run folder.
 * @returns the table for the terminal
 */
export async function redraw(folder: string, say: OnDamage, signal: AbortSignal): Promise<string> {
  const settings = await readRunSettings(folder);
  const release = lockFolder(folder);
  try {
    const run = await summariseRun(folder, settings, say, signal);
    await drawRun(folder, settings, run, signal);
    return runText(run);
  } finally {
    release();
  }
}
