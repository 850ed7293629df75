// The state that a restart needs: weights, both moments, the step, and rollouts that were sampled for the next step
// (pending-rollouts.ts), if there are any. Two slots are written in turn: while one is
// replaced, the other is whole. If the latest slot is damaged, the other one is loaded, and the run says so.
//
// The slot depends only on the step. A state saved early (Ctrl-C) uses the slot of the next scheduled save, so an interrupted
// run ends with the same two slots as an undisturbed one.
//
// A finished run needs its slots only for further training. `settleState` deletes them if the user wants that, and
// leaves the
// number of steps done in finished.json.
//
// Slots are not the checkpoints of a run: those are Hugging Face folders that are kept (kept-checkpoints.ts).
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { z } from "zod";
import {
  asError,
  FileError,
  formatBytes,
  RunFolderError,
  readJson,
  sha256File,
  writeAtomic,
} from "../engine/host/index.ts";
import type { ParameterArena, Shape } from "../engine/index.ts";
import { openSafetensors, writeFolderAtomically, writeSafetensors } from "../model/index.ts";

const slots = ["slot-0", "slot-1"];
const tensorsFile = "state.safetensors";
const trainerFile = "trainer.json";
const pendingFile = "pending.jsonl.gz";
const finishedFile = "finished.json";

const trainerSchema = z.object({
  schemaVersion: z.literal(1),
  /** Training steps done. */
  step: z.number().int().nonnegative(),
  sha256: z.string(),
  /** Further numbers of the caller. */
  own: z.record(z.string(), z.number()),
  /** Of the rollouts that were sampled for the next step; only if there are any. */
  pendingSha256: z.string().optional(),
  /** CRC-32 of the other fields: a changed step would continue a run wrongly. Folders of earlier versions have none. */
  crc: z.string().optional(),
});
type TrainerFile = z.infer<typeof trainerSchema>;

function crcOf({ schemaVersion, step, sha256, own, pendingSha256 }: TrainerFile): string {
  return crc32(JSON.stringify({ schemaVersion, step, sha256, own, pendingSha256 })).toString(16).padStart(8, "0");
}

/** @throws FileError when the file is missing or its content has changed */
function readTrainer(slot: string): TrainerFile {
  const path = join(slot, trainerFile);
  const trainer = readJson(path, trainerSchema);
  if (trainer.crc !== undefined && trainer.crc !== crcOf(trainer))
    throw new FileError(`${path}: its content is not what was written (its checksum differs).`);
  return trainer;
}

/** The file that a finished run without state leaves. */
const finishedSchema = z.object({ schemaVersion: z.literal(1), step: z.number().int().nonnegative() });

export interface TrainerState {
  /** Training steps done. */
  readonly step: number;
  /** Further numbers of the caller, such as counts of tokens. */
  readonly own: Readonly<Record<string, number>>;
  /** The rollouts that were sampled for the next step (`packRollouts`), if there are any. */
  readonly pending?: Uint8Array;
}

/**
 * Writes the state into one of the slots. Atomic; the state is on the disk when the function returns.
 * @param every  steps between two states
 */
export async function saveState(
  folder: string,
  arena: ParameterArena,
  state: TrainerState,
  every: number,
): Promise<void> {
  const tensors = (await partsOf(arena)).map((part) => ({ ...part, dtype: "f32" as const }));
  await writeFolderAtomically(join(folder, slots[Math.ceil(state.step / every) % 2]), async (slot) => {
    const path = join(slot, tensorsFile);
    await writeSafetensors(path, tensors, {}); // some readers (npm's safetensors) refuse files with metadata
    const pending = join(slot, pendingFile);
    if (state.pending !== undefined) writeAtomic(pending, state.pending);
    const trainer: TrainerFile = {
      schemaVersion: 1,
      step: state.step,
      sha256: sha256File(path),
      own: { ...state.own },
      ...(state.pending !== undefined && { pendingSha256: sha256File(pending) }),
    };
    writeAtomic(join(slot, trainerFile), `${JSON.stringify({ ...trainer, crc: crcOf(trainer) })}\n`);
  });
  rmSync(join(folder, finishedFile), { force: true });
}

/**
 * Values and moments, as `PART.NAME`. Of a model that is only evaluated (train.steps 0) the arena has no moments. No step was
 * taken, so they are zero: the state is that of a training before its first step, and a longer run can begin from it.
 */
async function partsOf(arena: ParameterArena): Promise<{ name: string; shape: Shape; data: Float32Array }[]> {
  const parts = [...(await arena.readState())].map(([name, part]) => ({ name, ...part }));
  if (hasMoments(arena)) return parts;
  const zeros = new Float32Array(parts.reduce((most, { data }) => Math.max(most, data.length), 0));
  const moments = ["moment1", "moment2"].flatMap((moment) =>
    arena.names.map((name) => {
      const { shape, size } = arena.value(name);
      return { name: `${moment}.${name}`, shape, data: zeros.subarray(0, size) };
    }),
  );
  return [...parts, ...moments];
}

const hasMoments = (arena: ParameterArena): boolean => arena.memory().moments > 0;

/** Steps done, by the latest readable slot or by finished.json; null when there is neither. */
export function trainedSteps(folder: string): number | null {
  const steps = slots.flatMap((slot) => slotStep(folder, slot) ?? []);
  return steps.length === 0 ? finishedSteps(folder) : Math.max(...steps);
}

function finishedSteps(folder: string): number | null {
  const path = join(folder, finishedFile);
  return existsSync(path) ? readJson(path, finishedSchema).step : null;
}

/**
 * Refuses further training of a run that kept no state.
 * @throws RunFolderError saying what to do
 */
export function expectTrainable(folder: string): void {
  const finished = finishedSteps(folder);
  if (finished === null || slots.some((slot) => existsSync(join(folder, slot)))) return;
  throw new RunFolderError(
    `${folder}: training needs the optimiser state after step ${finished}, and it was deleted when the run finished ` +
      "(train.keepState none). Restore slot-0 or slot-1 from a copy; or delete the folder, and the same command trains " +
      "again from the start, to the same results.",
  );
}

/** Which optimiser states a finished run keeps: both slots, the latest, or none. */
export type KeptState = "all" | "last" | "none";

export const keptStates: readonly KeptState[] = ["all", "last", "none"];

/**
 * Deletes the states that a finished run does not keep. Calling it again has no further effect.
 * @returns a sentence for the user: what was deleted or kept, its size, and its use; null when there is no state
 */
export function settleState(folder: string, keep: KeptState): string | null {
  const steps = trainedSteps(folder);
  if (steps === null) return null;
  const present = slots.filter((slot) => existsSync(join(folder, slot)));
  const latest = present.find((slot) => slotStep(folder, slot) === steps);
  // If no slot is whole, nothing is deleted; further training then reports the damage.
  const dropped =
    latest === undefined || keep === "all" ? [] : present.filter((slot) => keep === "none" || slot !== latest);
  const bytes = (names: readonly string[]): string =>
    formatBytes(names.reduce((sum, name) => sum + sizeOf(join(folder, name)), 0));
  const droppedBytes = bytes(dropped);
  if (dropped.length > 0 && keep === "none")
    writeAtomic(join(folder, finishedFile), `${JSON.stringify({ schemaVersion: 1, step: steps })}\n`);
  for (const slot of dropped) rmSync(join(folder, slot), { recursive: true });
  const kept = present.filter((slot) => !dropped.includes(slot));
  return [
    ...(dropped.length > 0
      ? [`Dropped ${droppedBytes} of optimiser state from ${folder} (train.keepState ${keep}).`]
      : []),
    ...(kept.length > 0
      ? [
          `${folder} holds ${bytes(kept)} of optimiser state, needed only to train this run further` +
            (kept.length > 1 ? ": the same command with --train.keepState last or none drops half or all of it." : "."),
        ]
      : ["Without it the run cannot be trained further; its checkpoints and results are complete."]),
  ].join(" ");
}

/** Null if the slot is missing or damaged; loadState distinguishes the two. */
function slotStep(folder: string, slot: string): number | null {
  try {
    return readTrainer(join(folder, slot)).step;
  } catch {
    return null;
  }
}

function sizeOf(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

export interface LoadedState {
  state: TrainerState;
  /** The fault of a later slot that was skipped, or null. */
  trouble: string | null;
}

/**
 * Loads the latest valid state into the arena; null if the run has not begun.
 * @throws RunFolderError when states exist and none is valid, or when the run finished and kept none
 */
export async function loadState(folder: string, arena: ParameterArena): Promise<LoadedState | null> {
  const found: ({ path: string } & TrainerFile)[] = [];
  const troubles: string[] = [];
  for (const slot of slots) {
    const path = join(folder, slot);
    if (!existsSync(path)) continue;
    try {
      found.push({ path, ...readTrainer(path) });
    } catch (error) {
      troubles.push(asError(error).message);
    }
  }
  found.sort((a, b) => b.step - a.step);
  for (const { path, step, sha256, own, pendingSha256 } of found) {
    try {
      const pending = pendingSha256 === undefined ? {} : { pending: wholeFile(join(path, pendingFile), pendingSha256) };
      await loadTensors(join(path, tensorsFile), sha256, arena);
      return { state: { step, own, ...pending }, trouble: troubles.length > 0 ? troubles.join(" ") : null };
    } catch (error) {
      troubles.push(asError(error).message);
    }
  }
  if (found.length === 0) expectTrainable(folder);
  if (troubles.length === 0) return null;
  throw new RunFolderError(
    `${folder}: no state can be loaded: ${troubles.join(" ")} Restore the folder from a copy; or delete it, and the same ` +
      "command trains again from the start, to the same results.",
  );
}

/** AdamW's moments after a step, as a state holds them. */
export interface SavedMoments {
  /** Updates that mixed precision skipped. */
  readonly skipped: number;
  /** The first and second moment of a tensor. */
  read(name: string): Promise<{ moment1: Float32Array; moment2: Float32Array }>;
  close(): Promise<void>;
}

/** The moments after exactly `step` steps; null if no sound slot has them. The caller closes them. */
export async function openMoments(folder: string, step: number): Promise<SavedMoments | null> {
  for (const slot of slots) {
    const place = join(folder, slot);
    if (slotStep(folder, slot) !== step) continue;
    const { sha256, own } = readTrainer(place);
    const path = join(place, tensorsFile);
    if (!existsSync(path) || sha256File(path) !== sha256) continue;
    const file = await openSafetensors(path);
    return {
      skipped: own.skippedSteps ?? 0,
      read: async (name) => ({
        moment1: await file.readFloat32(`moment1.${name}`),
        moment2: await file.readFloat32(`moment2.${name}`),
      }),
      close: () => file.close(),
    };
  }
  return null;
}

/** @throws RunFolderError when the file's content has another digest */
function expectContent(path: string, sha256: string): void {
  if (sha256File(path) !== sha256)
    throw new RunFolderError(`${path}: its content is not what was written (SHA-256 differs).`);
}

function wholeFile(path: string, sha256: string): Buffer {
  expectContent(path, sha256);
  return readFileSync(path);
}

async function loadTensors(path: string, sha256: string, arena: ParameterArena): Promise<void> {
  expectContent(path, sha256);
  const file = await openSafetensors(path);
  try {
    const parts = new Map<string, Float32Array>();
    // A model that is only evaluated needs no moments.
    const wanted = [...file.tensors.keys()].filter((name) => hasMoments(arena) || name.startsWith("values."));
    for (const name of wanted) parts.set(name, await file.readFloat32(name));
    arena.loadState(parts);
  } finally {
    await file.close();
  }
}
