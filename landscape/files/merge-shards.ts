// Joins the run folders of shards (`--shard i/n`) to one that has the bytes of a run on one machine. Shards are of one study:
// the same settings, checkpoints, environment files, driver, program version and order of sums. Two of these may differ if
// that is asked for, the driver and the version; the folder then says so, and every figure with it.
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import {
  diffSettings,
  ensureFolder,
  explained,
  MemberFile,
  openJournal,
  RunFolderError,
  readJournal,
  readMembers,
  withValues,
  writeAtomic,
  writeToml,
} from "../../engine/host/index.ts";
import { writeFolderAtomically } from "../../model/index.ts";
import {
  checkpointFolder,
  configPath,
  modelDigest,
  type Provenance,
  provenancePath,
  readProvenance,
  stepName,
  versionText,
} from "../../rl/index.ts";
import { gridCells, type PointPlace, workOrder } from "../grid.ts";
import { linesFrom, ownCheckpoints } from "../ray-settings.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import { cellKey } from "./cell-key.ts";
import { type CellRecord, type JournalledCell, journalledCell } from "./cells.ts";
import { readGiven } from "./given-checkpoints.ts";
import { klFromRecord } from "./kl-from-files.ts";
import {
  fixedKlFolder,
  klFromPath,
  lineFolder,
  pairPath,
  pairsFolder,
  rayPaths,
  raysFolder,
  referencePath,
  type SlicePlace,
  sliceFolder,
  slicePaths,
} from "./layout.ts";
import { pairsFrom } from "./pair-files.ts";
import { type ScaleRecord, scaleRecord } from "./ray-files.ts";
import { fixedKlPoints, linePoints, rayPoints, scaleKey, wantedScales } from "./ray-points.ts";
import { readRunSettings } from "./run-settings.ts";
import { factsIn, isKnownGap, unreachedText } from "./slice-facts.ts";

export interface MergeOptions {
  /** Takes shards of different drivers and program versions. */
  allowMixed: boolean;
  /** Called with what a user should know: missing cells, cells that two shards measured. */
  say(line: string): void;
}

interface ShardFolder {
  folder: string;
  settings: StudySettings;
  provenance: Provenance;
}

interface FoundCell {
  record: JournalledCell;
  conversations: Buffer;
  shard: ShardFolder;
}

/** Parts of a run folder that are not copied from the first shard: they are merged, drawn again, or of one process. */
const ownParts = new Set([
  "landscape",
  "figures",
  "report.html",
  "config.toml",
  "provenance.json",
  "timings.jsonl",
  ".lock",
]);

/**
 * Writes the merged folder, which appears only when it is whole.
 * @throws RunFolderError when it exists, when the shards are not of one study, or when two of them have other numbers for the
 *   same cell
 */
export async function mergeShards(out: string, folders: readonly string[], options: MergeOptions): Promise<void> {
  if (existsSync(out) && readdirSync(out).length > 0)
    throw new RunFolderError(
      `${out}: expected a new folder for the merged run, this one has files. Choose another name.`,
    );
  const shards: ShardFolder[] = [];
  for (const folder of folders)
    shards.push({ folder, settings: await readRunSettings(folder), provenance: readProvenance(folder) });
  const mixed = expectOneStudy(shards, options);
  const [first] = shards;
  const settings = withValues(studySettings, first.settings, new Map([["shard", ""]]));
  const { steps, slices, klFrom } = settings.landscape;
  const places = steps.flatMap((step) => Array.from({ length: slices }, (_, slice) => ({ step, slice })));
  for (const step of steps) expectSameCheckpoint(shards, step);
  expectSameKeys(shards, mixed.length > 0);
  for (const place of places) expectSameFiles(shards, place);
  for (const step of klFrom) expectSame(shards.map(({ folder }) => referencePath(folder, step)));
  for (const step of steps) expectSame(shards.map(({ folder }) => rayPaths(raysFolder(folder, step)).rays));
  await writeFolderAtomically(out, async (folder) => {
    for (const name of readdirSync(first.folder))
      if (!ownParts.has(name)) cpSync(join(first.folder, name), join(folder, name), { recursive: true });
    for (const step of new Set([...steps, ...klFrom])) copyIfThere(referencePath, first.folder, folder, step, shards);
    for (const place of places) mergeSlice(shards, folder, place, settings, options);
    for (const step of steps) mergeRays(shards, folder, step, settings, options);
    for (const step of steps) mergeLines(shards, folder, step, settings, options);
    for (const step of steps) mergePairs(shards, folder, step, settings, options);
    writeAtomic(configPath(folder), writeToml(studySettings, settings));
    const provenance: Provenance = mixed.length === 0 ? first.provenance : { ...first.provenance, mixed };
    writeAtomic(provenancePath(folder), `${JSON.stringify(provenance, null, 1)}\n`);
  });
}

/** @returns the drivers and versions, if they differ and this is allowed */
function expectOneStudy(shards: readonly ShardFolder[], { allowMixed }: MergeOptions): string[] {
  const [first, ...others] = shards;
  const refuse = (other: ShardFolder, what: string, mend = "Shards of one study can be merged only."): never => {
    throw new RunFolderError(`${first.folder} and ${other.folder}: ${what}. ${mend}`);
  };
  for (const other of others) {
    const lines = diffSettings(studySettings, first.settings, other.settings)
      .filter(({ key, effect }) => key !== "shard" && effect !== "free")
      .map(({ line }) => `\n  ${line}`);
    if (lines.length > 0) refuse(other, `the settings differ:${lines.join("")}\n`.trimEnd());
    const [a, b] = [first.provenance, other.provenance];
    if (a.products.order !== b.products.order)
      refuse(other, `products are summed by "${a.products.order}" and by "${b.products.order}"`);
    if (modelDigest(a.model) !== modelDigest(b.model)) refuse(other, "the models differ (provenance.json)");
    if (!isDeepStrictEqual(a.files, b.files)) refuse(other, "the environment's files differ (provenance.json)");
    if (!allowMixed && a.adapter !== b.adapter)
      refuse(
        other,
        `measured on "${a.adapter}" and on "${b.adapter}", whose results differ in the last bits`,
        mendMixed,
      );
    if (!allowMixed && versionText(a) !== versionText(b))
      refuse(other, `measured with foothold ${versionText(a)} and ${versionText(b)}`, mendMixed);
  }
  const differing = (of: (provenance: Provenance) => string): string[] => {
    const all = [...new Set(shards.flatMap(({ provenance }) => [of(provenance)]))];
    return all.length > 1 ? all : [];
  };
  const before = shards.flatMap(({ provenance }) => provenance.mixed);
  return [
    ...new Set([
      ...before,
      ...differing(({ adapter }) => adapter),
      ...differing((one) => `foothold ${versionText(one)}`),
    ]),
  ];
}

const mendMixed = "--allow-mixed merges them all the same, and marks every figure.";

/**
 * All that a measurement depends on, as one key: a difference that no check above names is refused too. Mixed shards have
 * other plans in their keys.
 * @throws RunFolderError
 */
function expectSameKeys(shards: readonly ShardFolder[], isMixed: boolean): void {
  const [first, ...others] = shards;
  const keyOf = ({ settings, provenance }: ShardFolder): string => {
    const { adapter, foothold, gitRevision } = first.provenance;
    const origin = isMixed ? { ...provenance, adapter, foothold, gitRevision } : provenance;
    return cellKey({ settings, origin }, "", { slice: 0, alpha: 0, beta: 0 });
  };
  const other = others.find((one) => keyOf(one) !== keyOf(first));
  if (other !== undefined)
    throw new RunFolderError(
      `${first.folder} and ${other.folder}: their grid points have other keys (settings, environment files or plan), so they are of ` +
        "two studies. Shards of one study can be merged only.",
    );
}

/** A checkpoint by the checksums of its files. @throws RunFolderError */
function expectSameCheckpoint(shards: readonly ShardFolder[], step: number): void {
  const [first, ...others] = shards;
  const sums = ({ folder }: ShardFolder): string => {
    const given = readGiven(folder, step);
    if (given !== null) return JSON.stringify(Object.entries(given.sha256).sort());
    const path = `${checkpointFolder(folder, step)}.sha256`;
    return existsSync(path) ? explained(path, () => readFileSync(path, "utf8")) : "";
  };
  const other = others.find((one) => sums(one) !== sums(first));
  if (other !== undefined)
    throw new RunFolderError(
      `${first.folder} and ${other.folder}: the checkpoints of step ${step} differ. Measure both around the same one.`,
    );
}

/** The reference's completions and the directions, which all cells of a map rest on. @throws RunFolderError */
function expectSameFiles(shards: readonly ShardFolder[], place: SlicePlace): void {
  const pathsOf = [
    ({ folder }: ShardFolder) => referencePath(folder, place.step),
    ({ folder }: ShardFolder) => slicePaths(sliceFolder(folder, place)).directions,
  ];
  for (const pathOf of pathsOf) expectSame(shards.map(pathOf));
}

/** @throws RunFolderError when two of the files that are there differ */
function expectSame(paths: readonly string[]): void {
  const [first, ...others] = paths.filter((path) => existsSync(path));
  const other = others.find((path) => !readFileSync(path).equals(readFileSync(first)));
  if (other !== undefined)
    throw new RunFolderError(
      `${first} and ${other} differ, so cells that rest on them cannot be in one map. Measure one of the shards again on the ` +
        "other's machine.",
    );
}

function copyIfThere(
  pathOf: typeof referencePath,
  from: string,
  to: string,
  step: number,
  shards: readonly ShardFolder[],
): void {
  const source = [from, ...shards.map(({ folder }) => folder)]
    .map((one) => pathOf(one, step))
    .find((one) => existsSync(one));
  if (source === undefined) return;
  ensureFolder(dirname(pathOf(to, step)));
  writeAtomic(pathOf(to, step), readFileSync(source));
}

/** One map: every cell once, in the order in which one machine measures them. */
function mergeSlice(
  shards: readonly ShardFolder[],
  out: string,
  place: SlicePlace,
  settings: StudySettings,
  options: MergeOptions,
): void {
  const { say } = options;
  const name = `${stepName(place.step)}, slice ${place.slice}`;
  const ownOf = (folder: string): string => sliceFolder(folder, place);
  const found = foundCells(shards, ownOf, name, options, true);
  const own = ownOf(out);
  const sorted = workOrder(settings.landscape).flatMap(({ i, j }) => found.get(`${i},${j}`) ?? []);
  const gapped = shards.map(({ folder }) => ownOf(folder)).find(isKnownGap);
  const facts = gapped === undefined ? null : factsIn(gapped, say);
  if (facts !== null) say(`${name}: ${unreachedText(facts)}.`);
  const missing = settings.landscape.points ** 2 - sorted.length;
  if (missing > 0 && facts === null)
    say(`Incomplete: ${name}: ${missing} of ${settings.landscape.points ** 2} cells are in no shard.`);
  const from = gapped ?? (sorted.length === 0 ? null : ownOf(sorted[0].shard.folder));
  if (from === null) return;
  ensureFolder(own);
  writeAtomic(slicePaths(own).directions, readFileSync(slicePaths(from).directions));
  writeCells(own, sorted, say);
  for (const step of settings.landscape.klFrom)
    mergeJournals({
      ...{ shards, say, out: klFromPath(own, step), schema: klFromRecord },
      pathOf: (folder) => klFromPath(ownOf(folder), step),
      keyOf: ({ i, j }) => `${i},${j}`,
      order: step === place.step ? [] : gridCells(settings.landscape).map(({ i, j }) => `${i},${j}`),
      name: `${name}: KL from step ${step}`,
    });
}

/** The points on rays around a checkpoint, and those at fixed KL. */
function mergeRays(
  shards: readonly ShardFolder[],
  out: string,
  step: number,
  { landscape }: StudySettings,
  options: MergeOptions,
): void {
  const { rays } = landscape;
  if (rays.count === 0) return;
  const { say } = options;
  const raysOf = (folder: string): string => raysFolder(folder, step);
  const facts = shards.map(({ folder }) => rayPaths(raysOf(folder)).rays).find((path) => existsSync(path));
  if (facts !== undefined) {
    ensureFolder(raysOf(out));
    writeAtomic(rayPaths(raysOf(out)).rays, readFileSync(facts));
  }
  mergePoints(shards, out, raysOf, rayPoints(landscape), `${stepName(step)}, rays`, options);
  if (rays.kl.length === 0) return;
  const fixedOf = (folder: string): string => fixedKlFolder(folder, step);
  const scales = mergeJournals<ScaleRecord>({
    ...{ shards, say, out: rayPaths(fixedOf(out)).scales, schema: scaleRecord, keyOf: scaleKey },
    pathOf: (folder) => rayPaths(fixedOf(folder)).scales,
    order: wantedScales(landscape).map(scaleKey),
    name: `${stepName(step)}, scales of rays`,
  });
  mergePoints(shards, out, fixedOf, fixedKlPoints(landscape, scales), `${stepName(step)}, rays at fixed KL`, options);
}

/** Points of rays or lines, in the order of measurement. */
function mergePoints(
  shards: readonly ShardFolder[],
  out: string,
  ownOf: (folder: string) => string,
  points: readonly PointPlace[],
  name: string,
  options: MergeOptions,
): void {
  const found = foundCells(shards, ownOf, name, options);
  const sorted = points.flatMap(({ i, j }) => found.get(`${i},${j}`) ?? []);
  const missing = points.length - sorted.length;
  if (missing > 0) options.say(`Incomplete: ${name}: ${missing} of ${points.length} points are in no shard.`);
  if (sorted.length > 0) writeCells(ownOf(out), sorted, options.say);
}

/** The lines from a checkpoint to others. */
function mergeLines(
  shards: readonly ShardFolder[],
  out: string,
  step: number,
  settings: StudySettings,
  options: MergeOptions,
): void {
  const { line } = settings.landscape;
  for (const ahead of linesFrom(step, line, ownCheckpoints(settings))) {
    const ownOf = (folder: string): string => lineFolder(folder, step, ahead);
    const name = `${stepName(step)}, line to ${stepName(step + ahead)}`;
    mergePoints(shards, out, ownOf, linePoints(settings.landscape), name, options);
  }
}

/** A checkpoint's completions scored under the others. @throws RunFolderError when two shards have other numbers */
function mergePairs(
  shards: readonly ShardFolder[],
  out: string,
  step: number,
  { landscape }: StudySettings,
  { say, allowMixed }: MergeOptions,
): void {
  if (!landscape.pairs) return;
  const wanted = pairsFrom(step, landscape.steps);
  let missing = 0;
  for (const to of wanted) {
    const paths = shards.map(({ folder }) => pairPath(folder, step, to)).filter((path) => existsSync(path));
    const other = paths.find((path) => !readFileSync(path).equals(readFileSync(paths[0])));
    const message = `${paths[0]} and ${other}: they have other numbers`;
    if (other !== undefined && !allowMixed)
      throw new RunFolderError(`${message}. Remove the wrong one from the merge.`);
    if (other !== undefined) say(`${message}. The first is taken.`);
    if (paths.length === 0) missing++;
    else {
      ensureFolder(pairsFolder(out, step));
      writeAtomic(pairPath(out, step, to), readFileSync(paths[0]));
    }
  }
  if (missing > 0) say(`Incomplete: ${stepName(step)}, pairs: ${missing} of ${wanted.length} are in no shard.`);
}

interface Journals<T extends object> {
  readonly shards: readonly ShardFolder[];
  pathOf(folder: string): string;
  readonly out: string;
  readonly schema: z.ZodType<T>;
  keyOf(record: T): string;
  /** The keys of all records that there can be. */
  readonly order: readonly string[];
  readonly name: string;
  say(line: string): void;
}

/**
 * Writes the records of journals in one order.
 * @returns them
 * @throws RunFolderError when two shards have other numbers for the same one
 */
function mergeJournals<T extends object>({ shards, pathOf, out, schema, keyOf, order, name, say }: Journals<T>): T[] {
  const found = new Map<string, { record: T; path: string }>();
  for (const path of shards.map(({ folder }) => pathOf(folder)).filter((one) => existsSync(one)))
    for (const record of readJournal(path, schema, say).records) {
      const before = found.get(keyOf(record));
      if (before !== undefined && !isDeepStrictEqual(before.record, record))
        throw new RunFolderError(
          `${before.path} and ${path}: they have other numbers for ${keyOf(record)}. Remove the wrong one from the merge.`,
        );
      if (before === undefined) found.set(keyOf(record), { record, path });
    }
  const records = order.flatMap((key) => found.get(key)?.record ?? []);
  const missing = order.length - records.length;
  if (missing > 0) say(`Incomplete: ${name}: ${missing} of ${order.length} are in no shard.`);
  if (records.length === 0) return [];
  ensureFolder(dirname(out));
  const { journal } = openJournal(out, schema, say);
  try {
    for (const record of records) journal.append(record);
  } finally {
    journal.close();
  }
  return records;
}

/** The points of all shards by their indices; one that two shards have is compared. */
function foundCells(
  shards: readonly ShardFolder[],
  ownOf: (folder: string) => string,
  name: string,
  { allowMixed, say }: MergeOptions,
  isMap = false,
): Map<string, FoundCell> {
  const found = new Map<string, FoundCell>();
  let doubled = 0;
  for (const shard of shards)
    for (const cell of cellsOf(shard, ownOf(shard.folder), name, say)) {
      const key = `${cell.record.i},${cell.record.j}`;
      const before = found.get(key);
      if (before === undefined) found.set(key, cell);
      else {
        doubled++;
        const isSame = isDeepStrictEqual(measured(before.record), measured(cell.record));
        const message =
          `${name}: ${isMap ? "cell" : "point"} (${key}) has other numbers in ${before.shard.folder} than in ${shard.folder}` +
          (isMap
            ? `: node landscape/verify.ts ${shard.folder} --cell ${cell.record.i}:${cell.record.j} tells which is right`
            : "");
        if (!isSame && !allowMixed) throw new RunFolderError(`${message}. Remove the wrong one from the merge.`);
        if (!isSame) say(`${message}. The first is taken.`);
      }
    }
  if (doubled > 0) say(`${name}: ${doubled} ${isMap ? "cells" : "points"} were measured twice and compared.`);
  return found;
}

function writeCells(own: string, sorted: readonly FoundCell[], say: (line: string) => void): void {
  ensureFolder(own);
  const paths = slicePaths(own);
  const { journal } = openJournal(paths.cells, journalledCell, say);
  const { members } = MemberFile.open(paths.conversations, [], say);
  try {
    for (const { record, conversations } of sorted)
      journal.append({ ...record, conversationBytes: members.append(conversations) });
  } finally {
    journal.close();
    members.close();
  }
}

const measured = ({ conversationBytes: _, ...record }: JournalledCell): CellRecord => record;

function cellsOf(shard: ShardFolder, own: string, name: string, say: (line: string) => void): FoundCell[] {
  const paths = slicePaths(own);
  if (existsSync(paths.underWay) || existsSync(paths.earlier))
    say(`${basename(shard.folder)}: ${name} is not finished; its finished cells are taken.`);
  if (!existsSync(paths.cells)) return [];
  const { records } = readJournal(paths.cells, journalledCell, say);
  const members = readMembers(
    paths.conversations,
    records.map(({ conversationBytes }) => conversationBytes),
  );
  return records.map((record, index) => {
    const { content } = members[index];
    if (content === null)
      throw new RunFolderError(
        `${paths.conversations}: the conversations of cell (${record.i}, ${record.j}) cannot be read. Restore the file from a copy, ` +
          "or continue the shard's command, which measures the cell again.",
      );
    return { record, conversations: content, shard };
  });
}
