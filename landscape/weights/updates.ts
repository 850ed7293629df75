// The updates between checkpoints, tensor by tensor: which share of ‖θ_{t+k} − θ_t‖² lies in the top singular subspaces of θ_t,
// beside the share of a Gaussian. If training moved the weights along directions that they already have, the shares would lie
// above the Gaussian's; if it kept off these directions, below.
import { existsSync } from "node:fs";
import { z } from "zod";
import { type Progress, readJson, writeAtomic } from "../../engine/host/index.ts";
import { type Checkpoint, openCheckpoint } from "../../model/index.ts";
import type { Timings } from "../../rl/index.ts";
import { updatesPath } from "../files/layout.ts";
import type { StudySettings } from "../settings.ts";
import { gaussianShares, type Matrix, sharesIn, topSingularSubspaces } from "./singular-subspaces.ts";

/** Increases when a field changes its meaning or is removed. */
export const UPDATES_SCHEMA_VERSION = 1;

const shares = z.object({ left: z.number(), right: z.number(), both: z.number() });

const updateRecord = z.object({
  from: z.int(),
  to: z.int(),
  /** ‖θ_to − θ_from‖² over all tensors. */
  squaredNorm: z.number(),
  /** Of each weight with two axes. */
  matrices: z.array(
    z.object({
      name: z.string(),
      rows: z.int(),
      columns: z.int(),
      squaredNorm: z.number(),
      ...shares.shape,
      /** The same shares of a Gaussian, in expectation. */
      gaussian: shares,
      /** Whether the top subspace was told apart from the next singular values. */
      isSettled: z.boolean(),
    }),
  ),
});
/** The update from one checkpoint to another. */
export type UpdateRecord = z.infer<typeof updateRecord>;

const updatesFile = z.object({
  schemaVersion: z.literal(UPDATES_SCHEMA_VERSION),
  rank: z.int(),
  updates: z.array(updateRecord),
});

/** From each step to the next, and from the first to the last. */
export function updatePairs(steps: readonly number[]): { from: number; to: number }[] {
  const sorted = steps.toSorted((a, b) => a - b);
  const next = sorted.slice(1).map((to, k) => ({ from: sorted[k], to }));
  return next.length < 2 ? next : [...next, { from: sorted[0], to: sorted[sorted.length - 1] }];
}

/** The updates that were computed at this rank, by pair of steps. @throws FileError when the file cannot be read */
export function readUpdates(folder: string, { landscape }: Pick<StudySettings, "landscape">): UpdateRecord[] {
  const path = updatesPath(folder);
  if (landscape.updates.rank === 0 || !existsSync(path)) return [];
  const { rank, updates } = readJson(path, updatesFile);
  if (rank !== landscape.updates.rank) return [];
  return updatePairs(landscape.steps).flatMap(
    ({ from, to }) => updates.find((one) => one.from === from && one.to === to) ?? [],
  );
}

/** The pairs of steps whose update is not computed yet. */
export function updatesToCompute(
  folder: string,
  settings: Pick<StudySettings, "landscape" | "shard">,
): { from: number; to: number }[] {
  // A shard leaves them to the merged folder.
  if (settings.landscape.updates.rank === 0 || settings.shard !== "") return [];
  const known = readUpdates(folder, settings);
  return updatePairs(settings.landscape.steps).filter(
    ({ from, to }) => !known.some((one) => one.from === from && one.to === to),
  );
}

export interface UpdatesJob {
  /** The run folder. */
  readonly folder: string;
  readonly settings: Pick<StudySettings, "landscape" | "shard">;
  /** The folder of the checkpoint of a step. */
  folderOf(step: number): string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly timings: Pick<Timings, "measure">;
}

/** Computes what is missing; each update is on disk before the next begins. Does nothing if none is asked for. */
export async function computeAllUpdates(job: UpdatesJob): Promise<void> {
  const { folder, settings, folderOf, progress, signal, timings } = job;
  const { rank } = settings.landscape.updates;
  const todo = updatesToCompute(folder, settings);
  if (todo.length === 0) return;
  await timings.measure("updates", async () => {
    const phase = progress.phase("updates between checkpoints", todo.length, "updates");
    for (const { from, to } of todo) {
      const [before, after] = [await openCheckpoint(folderOf(from)), await openCheckpoint(folderOf(to))];
      try {
        const matrices = phase.phase(`step ${from} to ${to}`, matricesOf(before).length, "matrices");
        const found = { from, to, ...(await updateBetween(before, after, rank, () => matrices.advance(1), signal)) };
        matrices.done();
        const known = [...readUpdates(folder, settings), found];
        const updates = updatePairs(settings.landscape.steps).flatMap(
          (pair) => known.find((one) => one.from === pair.from && one.to === pair.to) ?? [],
        );
        writeAtomic(
          updatesPath(folder),
          `${JSON.stringify({ schemaVersion: UPDATES_SCHEMA_VERSION, rank, updates }, null, 1)}\n`,
        );
      } finally {
        await before.close();
        await after.close();
      }
      phase.advance(1);
    }
    phase.done();
  });
}

/** Weights with two axes. */
export const matricesOf = ({ shapes }: Pick<Checkpoint, "shapes">): string[] =>
  [...shapes].filter(([, shape]) => shape.length === 2).map(([name]) => name);

export async function updateBetween(
  before: Pick<Checkpoint, "shapes" | "tensor">,
  after: Pick<Checkpoint, "tensor">,
  rank: number,
  onMatrix: () => void = () => {},
  signal?: AbortSignal,
): Promise<Omit<UpdateRecord, "from" | "to">> {
  const matrices: UpdateRecord["matrices"] = [];
  let squaredNorm = 0;
  for (const [name, shape] of before.shapes) {
    signal?.throwIfAborted();
    const [{ data: was }, { data: is }] = [await before.tensor(name), await after.tensor(name)];
    const delta = Float64Array.from(is, (value, i) => value - was[i]);
    if (shape.length !== 2) {
      squaredNorm += delta.reduce((sum, value) => sum + value * value, 0);
      continue;
    }
    const [rows, columns] = shape;
    const matrix: Matrix = { rows, columns, data: was };
    const { left, right, isSettled } = topSingularSubspaces(matrix, rank, signal);
    const own = sharesIn({ left, right }, { rows, columns, data: delta });
    squaredNorm += own.squaredNorm;
    matrices.push({ name, rows, columns, ...own, gaussian: gaussianShares(matrix, rank), isSettled });
    onMatrix();
  }
  return { squaredNorm, matrices };
}
