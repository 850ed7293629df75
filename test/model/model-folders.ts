// Copies of fixture folders that a test may change, and what is read from them.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Checkpoint, openCheckpoint } from "../../model/checkpoint-files.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../../model/safetensors.ts";
import { fixturePath } from "../support.ts";

let copies = 0;

/** A copy of a fixture folder, in `scratch`. */
export function copyOf(scratch: string, fixture: string): string {
  const folder = join(scratch, `copy-${copies++}`);
  cpSync(fixturePath(fixture), folder, { recursive: true });
  return folder;
}

export async function withCheckpoint<T>(folder: string, body: (checkpoint: Checkpoint) => Promise<T>): Promise<T> {
  const checkpoint = await openCheckpoint(folder);
  try {
    return await body(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** Every parameter that is loaded from a folder. */
export const weightsOf = (folder: string): Promise<Map<string, Float32Array>> =>
  withCheckpoint(folder, async (checkpoint) => {
    const weights = new Map<string, Float32Array>();
    for (const name of checkpoint.shapes.keys()) weights.set(name, (await checkpoint.tensor(name)).data);
    return weights;
  });

/** Rewrites the one weight file of a folder. */
export async function changeTensors(
  folder: string,
  change: (tensors: Map<string, TensorToWrite>) => void,
): Promise<void> {
  const path = join(folder, "model.safetensors");
  const file = await openSafetensors(path);
  const tensors = new Map<string, TensorToWrite>();
  for (const { name, dtype, shape } of file.tensors.values())
    tensors.set(name, { name, dtype, shape, data: await file.readTensor(name) });
  await file.close();
  change(tensors);
  await writeSafetensors(path, tensors.values());
}

export function existing(tensors: Map<string, TensorToWrite>, name: string): TensorToWrite {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`the fixture has no ${name}`);
  return tensor;
}

export const readConfigOf = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));

export const readAdapterConfigOf = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));

export const writeJson = (folder: string, name: string, json: unknown): void =>
  writeFileSync(join(folder, name), JSON.stringify(json));

/** Overwrites one element of a matrix in a safetensors file of f32 by NaN. */
export function plantNaN(path: string, name: string, [row, column]: readonly [number, number]): void {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE());
  const { shape, data_offsets } = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString())[name];
  bytes.writeUInt32LE(0x7fc00000, 8 + headerBytes + data_offsets[0] + 4 * (shape[1] * row + column));
  writeFileSync(path, bytes);
}
