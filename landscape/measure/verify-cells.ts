// Recomputes some grid points of a run folder and compares them with what the folder has. On the adapter, driver and version
// that made the folder, every number of the record and of the checkpoint's own completions must have the same bits.
//
// On another driver or version the last bits of the logits may differ, so a few answers go another way. Then R, J and KL of
// the grid point are compared: each may differ by one standard error of the stored value, which is computed over prompts.
// That limit is a choice. A difference below it is smaller than what another draw of prompts would typically make, so it
// changes no conclusion about the map. It does not prove that both drivers are right. A difference above it does not prove
// that one of them is wrong.
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { ensureFolder, type Progress, RunFolderError, readJournal, SettingsError } from "../../engine/host/index.ts";
import { adapterLine, openBackend, preferTiles, sumOrder } from "../../engine/index.ts";
import { loadChat, loadModel, loadTokenizer } from "../../model/index.ts";
import {
  checkpointFolder,
  expectSound,
  labelledRandom,
  modelDigest,
  openEnvironment,
  programVersion,
  readProvenance,
  stateFolder,
  versionText,
} from "../../rl/index.ts";
import { isFixedKl } from "../direction-settings.ts";
import { cellKey } from "../files/cell-key.ts";
import { type CellRecord, type JournalledCell, journalledCell, type ReferenceSet, readSlice } from "../files/cells.ts";
import { expectSameGiven, locateGiven, readGiven } from "../files/given-checkpoints.ts";
import { type SlicePlace, sliceFolder, slicePaths } from "../files/layout.ts";
import { readRunSettings } from "../files/run-settings.ts";
import type { StudySettings } from "../settings.ts";
import { promptMaps } from "../statistics/cell-sums.ts";
import { pointOf } from "../statistics/points.ts";
import { spread } from "../statistics/statistics.ts";
import { sweep } from "./sweep.ts";
import { prepareReference } from "./sweep-context.ts";

export interface VerifyOptions extends Pick<StudySettings, "backend" | "adapter" | "tune" | "batch"> {
  /** How many cells are drawn at random, if none is named. */
  cells: number;
  seed: number;
  /** Cells by name: "i:j" in every map, or "STEP/SLICE/i:j". */
  named: readonly string[];
}

interface ChosenCell extends SlicePlace {
  record: JournalledCell;
  reference: ReferenceSet;
}

export interface Quantity {
  name: "R" | "J" | "KL";
  stored: number;
  recomputed: number;
  /** Over prompts; of the stored value. */
  standardError: number;
}

export interface CellComparison extends SlicePlace {
  i: number;
  j: number;
  key: string;
  isSameBits: boolean;
  quantities: readonly Quantity[];
}

export interface Verification {
  /** Whether adapter, driver, order of sums, version and revision are those of the folder, so that bits must be equal. */
  expectsSameBits: boolean;
  cells: readonly CellComparison[];
}

/** Whether a cell is as it must be: equal bits; on another driver or version, R, J and KL within one standard error. */
export function isRight({ isSameBits, quantities }: CellComparison, expectsSameBits: boolean): boolean {
  if (isSameBits || expectsSameBits) return isSameBits;
  return quantities.every(({ stored, recomputed, standardError }) => Math.abs(recomputed - stored) <= standardError);
}

/**
 * Recomputes cells of a run folder, which it does not change.
 * @throws RunFolderError when the folder has no cells; SettingsError when a named cell is not there; CheckpointError or
 *   RunFolderError when a checkpoint is not the one that was measured
 */
export async function verifyCells(
  folder: string,
  options: VerifyOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<Verification> {
  const stored = await readRunSettings(folder);
  const provenance = readProvenance(folder);
  const { backend: kind, adapter, tune, batch } = options;
  const settings: StudySettings = { ...stored, shard: "", backend: kind, adapter, tune, batch };
  const chosen = chooseCells(folder, stored, options, (line) => progress.line(line));
  const environment = await openEnvironment(settings.environment);
  const opened = await openBackend({ backend: kind, adapter, tune });
  const { backend } = opened;
  const place = mkdtempSync(join(tmpdir(), "foothold-verify-"));
  try {
    progress.line(adapterLine(opened));
    preferTiles(backend, provenance.products.tiles);
    const expectsSameBits =
      backend.description === provenance.adapter &&
      provenance.products.order === sumOrder &&
      versionText(provenance) === versionText(programVersion()) &&
      provenance.mixed.length === 0;
    const phase = progress.phase("cells", chosen.length, "cells");
    const cells: CellComparison[] = [];
    let done = 0;
    const others = await otherFolders(folder, stored, progress, signal);
    for (const step of new Set(chosen.map((one) => one.step))) {
      const ofStep = chosen.filter((one) => one.step === step);
      const { folder: model, digest } = await checkpointOf(folder, step, progress, signal);
      const { config, weights } = await loadModel(backend, model, {
        forwardCopies: settings.landscape.precision === "f32",
      });
      try {
        const context = {
          ...{ environment, settings, signal, model: { backend, config, weights } },
          chat: await loadChat(model, await loadTokenizer(model)),
          place: {
            step,
            trajectory: [...others.keys()],
            state: stateFolder(folder),
            folderOf: (other: number) => others.get(other) ?? checkpointFolder(folder, other),
          },
          say: (line: string) => progress.line(line),
        };
        const { prompts, rollouts } = settings.landscape.reference;
        const drawing = phase.phase("reference", prompts * rollouts, "completions");
        const reference = await prepareReference(context, drawing);
        drawing.done();
        for (const slice of new Set(ofStep.map((one) => one.slice))) {
          const ofSlice = ofStep.filter((one) => one.slice === slice);
          const wanted = new Set(ofSlice.map(({ record: { i, j } }) => `${i},${j}`));
          const own = join(place, `${step}-${slice}`);
          giveScales(folder, { step, slice }, own, settings);
          done = await sweep(context, slice, own, reference, phase, done, ({ i, j }) => wanted.has(`${i},${j}`));
          for (const { record, reference: before } of ofSlice) {
            const again = recordIn(own, record);
            const key = cellKey({ settings: stored, origin: provenance }, digest, { slice, ...record });
            cells.push({
              ...{ step, slice, key, i: record.i, j: record.j },
              isSameBits: isDeepStrictEqual(again, measured(record)) && isDeepStrictEqual(reference.set, before),
              quantities: compare(
                stored,
                { record: measured(record), reference: before },
                { record: again, reference: reference.set },
              ),
            });
          }
        }
      } finally {
        weights.free();
      }
    }
    phase.done();
    return { expectsSameBits, cells };
  } finally {
    rmSync(place, { recursive: true, force: true });
    backend.destroy();
  }
}

/** Directions that were scaled to a KL are taken at the scales that the folder has: the search is not repeated. */
function giveScales(folder: string, place: SlicePlace, own: string, { landscape }: StudySettings): void {
  if (!isFixedKl(landscape.directions)) return;
  ensureFolder(own);
  cpSync(slicePaths(sliceFolder(folder, place)).directions, slicePaths(own).directions);
}

const measured = ({ conversationBytes: _, ...record }: JournalledCell): CellRecord => record;

function recordIn(sliceFolder: string, { i, j }: { i: number; j: number }): CellRecord {
  const { records } = readJournal(slicePaths(sliceFolder).cells, journalledCell, () => {});
  const found = records.find((one) => one.i === i && one.j === j);
  if (found === undefined) throw new Error(`verify: cell (${i}, ${j}) was not recomputed`);
  return measured(found);
}

interface Measurement {
  record: CellRecord;
  reference: ReferenceSet;
}

function compare({ landscape }: StudySettings, stored: Measurement, again: Measurement): Quantity[] {
  const [was, is] = [pointOf(stored.record, stored.reference), pointOf(again.record, again.reference)];
  const maps = promptMaps([stored.record], stored.reference, landscape);
  const errorOf = (ofPrompts: readonly Float64Array[]): number =>
    spread(ofPrompts.map(([value]) => value)).standardError ?? Number.NaN;
  return [
    { name: "R", stored: was.reward, recomputed: is.reward, standardError: errorOf(maps.reward) },
    { name: "J", stored: was.j_group_token, recomputed: is.j_group_token, standardError: errorOf(maps.objective) },
    { name: "KL", stored: was.kl_token, recomputed: is.kl_token, standardError: errorOf(maps.kl) },
  ];
}

function chooseCells(
  folder: string,
  { landscape: { steps, slices } }: StudySettings,
  { cells, seed, named }: VerifyOptions,
  say: (line: string) => void,
): ChosenCell[] {
  const all = steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })))
    .flatMap((place): ChosenCell[] => {
      const files = readSlice(folder, place, say);
      return (files?.cells ?? []).map((record) => ({ ...place, record, reference: files?.reference ?? noReference }));
    });
  if (all.length === 0) throw new RunFolderError(`${folder}: no grid point is measured here.`);
  if (named.length === 0) {
    labelledRandom(`verify|${seed}`).shuffle(all);
    return all.slice(0, cells).sort((a, b) => a.step - b.step || a.slice - b.slice);
  }
  return named.flatMap((name) => {
    const found = all.filter(({ step, slice, record: { i, j } }) =>
      [`${i}:${j}`, `${step}/${slice}/${i}:${j}`].includes(name),
    );
    if (found.length === 0)
      throw new SettingsError(
        `cell: ${JSON.stringify(name)} is not measured in ${folder}. Expected i:j or STEP/SLICE/i:j, as ${all[0].step}/${all[0].slice}/` +
          `${all[0].record.i}:${all[0].record.j}`,
      );
    return found;
  });
}

const noReference: ReferenceSet = { tokens: [], reward: [], advantage: [] };

/** The folders of all checkpoints, ascending, if a direction is made from them. */
async function otherFolders(
  folder: string,
  { checkpoints, train, landscape }: StudySettings,
  progress: Progress,
  signal: AbortSignal,
): Promise<Map<number, string>> {
  const { delta, eta } = landscape.directions;
  const steps = checkpoints.length > 0 ? landscape.steps : train.checkpoints;
  const found = new Map<number, string>();
  if ([delta, eta].some(({ kind }) => kind === "pca" || kind === "checkpoint-difference"))
    for (const step of steps.toSorted((a, b) => a - b))
      found.set(step, (await checkpointOf(folder, step, progress, signal)).folder);
  return found;
}

/** A checkpoint of the run, or the one that it refers to, and the digest of its files. */
async function checkpointOf(
  folder: string,
  step: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<{ folder: string; digest: string }> {
  const digestOf = (sha256: Readonly<Record<string, string>>): string =>
    modelDigest({ name: "", commit: null, isEmbedded: false, sha256 });
  const given = readGiven(folder, step);
  if (given !== null) {
    const path = given.commit === null ? given.path : `${given.path}@${given.commit}`;
    const { located } = await locateGiven({ step, path }, { progress, signal }).then((found) => {
      expectSameGiven(folder, { ...found.given, path: given.path });
      return found;
    });
    return { folder: located.folder, digest: digestOf(given.sha256) };
  }
  expectSound(folder, step);
  const own = checkpointFolder(folder, step);
  const { given: read } = await locateGiven({ step, path: own }, { progress, signal });
  return { folder: own, digest: digestOf(read.sha256) };
}
