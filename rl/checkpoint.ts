// What a restart needs: weights, both moments, and where the run stood. Two slots are written in turn, so that the one
// before is whole while the next is written; a damaged latest slot falls back to it, and says so. Which slot a state goes
// to depends on its step alone, and a state saved out of turn (by Ctrl-C) goes to the slot of the next one in turn: so a
// run that was interrupted ends with the slots of one that was not.
//
// Not to be taken for a run's checkpoints: those are Hugging Face folders, kept for good (model/weights.ts writes them).
import { existsSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { asError, FileError, RunFolderError, readJson, sha256File, writeAtomic } from "../engine/host/index.ts";
import type { ParameterArena } from "../engine/index.ts";
import { openSafetensors, writeFolderAtomically, writeSafetensors } from "../model/index.ts";

const slots = ["slot-0", "slot-1"];
const tensorsFile = "state.safetensors";
const trainerFile = "trainer.json";

const trainerSchema = z.object({
  schemaVersion: z.literal(1),
  /** Optimiser steps done. */
  step: z.number().int().nonnegative(),
  sha256: z.string(),
  /** The caller's own numbers. */
  own: z.record(z.string(), z.number()),
  /** CRC-32 of the other fields: a changed step would continue a run wrongly. Folders of earlier versions have none. */
  crc: z.string().optional(),
});
type TrainerFile = z.infer<typeof trainerSchema>;

function crcOf({ schemaVersion, step, sha256, own }: TrainerFile): string {
  return crc32(JSON.stringify({ schemaVersion, step, sha256, own })).toString(16).padStart(8, "0");
}

/** @throws FileError when the file is missing or not what was written */
function readTrainer(slot: string): TrainerFile {
  const path = join(slot, trainerFile);
  const trainer = readJson(path, trainerSchema);
  if (trainer.crc !== undefined && trainer.crc !== crcOf(trainer))
    throw new FileError(`${path}: its content is not what was written (its checksum differs).`);
  return trainer;
}

export interface TrainerState {
  /** Optimiser steps done. */
  readonly step: number;
  /** Further numbers of the caller's, such as counts of tokens. */
  readonly own: Readonly<Record<string, number>>;
}

/**
 * Writes the state into one of the slots. Atomic; on the disk when it returns.
 * @param every  steps from one state to the next
 */
export async function saveState(
  folder: string,
  arena: ParameterArena,
  state: TrainerState,
  every: number,
): Promise<void> {
  const parts = await arena.readState();
  const tensors = [...parts].map(([name, { shape, data }]) => ({ name, dtype: "f32" as const, shape, data }));
  await writeFolderAtomically(join(folder, slots[Math.ceil(state.step / every) % 2]), async (slot) => {
    const path = join(slot, tensorsFile);
    await writeSafetensors(path, tensors);
    const trainer: TrainerFile = {
      schemaVersion: 1,
      step: state.step,
      sha256: sha256File(path),
      own: { ...state.own },
    };
    writeAtomic(join(slot, trainerFile), `${JSON.stringify({ ...trainer, crc: crcOf(trainer) })}\n`);
  });
}

/** Steps done according to the latest readable slot; null when there is none. */
export function trainedSteps(folder: string): number | null {
  const steps = slots.flatMap((slot) => {
    try {
      return [readTrainer(join(folder, slot)).step];
    } catch {
      return []; // not there, or damaged, which loadState tells
    }
  });
  return steps.length === 0 ? null : Math.max(...steps);
}

export interface LoadedState {
  state: TrainerState;
  /** What was wrong with a later slot that had to be passed over, or null. */
  trouble: string | null;
}

/**
 * Loads the latest sound state into the arena; null when there is none because the run has not begun.
 * @throws RunFolderError when there are states and none is sound
 */
export async function loadState(folder: string, arena: ParameterArena): Promise<LoadedState | null> {
  const found: { path: string; step: number; sha256: string; own: Record<string, number> }[] = [];
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
  for (const { path, step, sha256, own } of found) {
    try {
      await loadTensors(join(path, tensorsFile), sha256, arena);
      return { state: { step, own }, trouble: troubles.length > 0 ? troubles.join(" ") : null };
    } catch (error) {
      troubles.push(asError(error).message);
    }
  }
  if (troubles.length === 0) return null;
  throw new RunFolderError(
    `${folder}: no state can be loaded: ${troubles.join(" ")} Restore the folder from a copy; or delete it, and the same ` +
      "command trains again from the start, to the same results.",
  );
}

async function loadTensors(path: string, sha256: string, arena: ParameterArena): Promise<void> {
  if (sha256File(path) !== sha256)
    throw new RunFolderError(`${path}: its content is not what was written (SHA-256 differs).`);
  const file = await openSafetensors(path);
  try {
    const parts = new Map<string, Float32Array>();
    for (const name of file.tensors.keys()) parts.set(name, await file.readFloat32(name));
    arena.loadState(parts);
  } finally {
    await file.close();
  }
}
