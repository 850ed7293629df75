// A model's weights on a device: all parameters in one arena, loaded from a Hugging Face folder and saved to one.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Backend, matrixUnits, ParameterArena, type Tensor } from "../engine/index.ts";
import { type Checkpoint, openCheckpoint, openConfig, readModelJson } from "./checkpoint-files.ts";
import type { LanguageModel } from "./language-model.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

export interface WeightOptions {
  /** Make room for gradients and the optimiser's two moments. Default false. */
  trainable?: boolean;
  /** f64 on the CPU backend, for reference values. Default f32. */
  dtype?: "f32" | "f64";
  /** Receives the notes for the user about how the folder was read. Default: prints to standard error. */
  note?: (sentence: string) => void;
  /**
   * mixed: linear layers read their operands in f16 (the weights themselves stay f32), and so do the head and the
   * forward pass of attention if the adapter has matrix units. Default f32.
   */
  precision?: "f32" | "mixed";
}

/** An arena with the parameters of a model, all zero. */
export function makeWeights(backend: Backend, config: LanguageModel, options: WeightOptions = {}): ParameterArena {
  const { trainable = false, dtype = "f32", precision = "f32" } = options;
  const head = config.headName();
  const parameters = new Map(
    [...config.parameters()].map(([name, { shape, role, group }]) => {
      const isLinear = role === "linear";
      const isMixed = isLinear || (name === head && matrixUnits(backend) !== null);
      const halfCopies = isMixed && precision === "mixed";
      return [name, { shape, isLinear, forwardCopy: isLinear || name === head, halfCopies, group }];
    }),
  );
  return new ParameterArena(backend, parameters, { trainable, dtype });
}

/** Loads an open checkpoint piece by piece. Host memory holds a few pieces at a time, whatever the size of a tensor. */
export async function loadWeights(
  backend: Backend,
  checkpoint: Checkpoint,
  options: WeightOptions = {},
): Promise<ParameterArena> {
  const arena = makeWeights(backend, checkpoint.config, options);
  let pending = 0;
  for (const name of checkpoint.shapes.keys())
    for await (const { start, data } of checkpoint.chunks(name)) {
      writePart(arena.value(name), start, data);
      pending += data.byteLength;
      // A driver keeps a copy of written data until the device has it.
      if (pending < piecesAtOnceBytes) continue;
      await backend.idle();
      pending = 0;
    }
  arena.valuesChanged();
  return arena;
}

/** Maximum bytes in transfer to the device at a time while weights load. */
export const piecesAtOnceBytes = 64 * 2 ** 20;

/** Writes elements from `start` on, into the segments that hold them. */
function writePart(tensor: Tensor, start: number, data: Float32Array): void {
  const values = tensor.dtype === "f64" ? Float64Array.from(data) : data;
  let offset = 0; // of the segment, in the tensor
  for (const { buffer, base, rows } of tensor.segments) {
    const length = rows * tensor.rowSize;
    const from = Math.max(start, offset);
    const to = Math.min(start + data.length, offset + length);
    if (from < to) tensor.backend.write(buffer, base + from - offset, values.subarray(from - start, to - start));
    offset += length;
  }
}

export interface LoadedModel {
  backend: Backend;
  config: LanguageModel;
  weights: ParameterArena;
}

/** Opens a Hugging Face folder, checks it, and loads its weights. */
export async function loadModel(backend: Backend, folder: string, options: WeightOptions = {}): Promise<LoadedModel> {
  const checkpoint = await openCheckpoint(folder);
  const { note = (sentence: string) => process.stderr.write(`${sentence}\n`) } = options;
  checkpoint.notes.forEach((sentence) => void note(sentence));
  try {
    return { backend, config: checkpoint.config, weights: await loadWeights(backend, checkpoint, options) };
  } finally {
    await checkpoint.close();
  }
}

/**
 * Writes the weights as a Hugging Face folder in f32, with all other files of the folder that they came from. Atomic.
 * @param endTokenIds  tokens that end an answer, written to `generation_config.json`. If the model's files already name
 *   the same tokens, that file is copied unchanged (or stays absent).
 */
export async function saveWeights(
  weights: ParameterArena,
  folder: string,
  filesFrom: string,
  endTokenIds?: readonly number[],
): Promise<void> {
  const { config, configJson } = await openConfig(filesFrom);
  const values = await weights.read();
  const isNamed = endTokenIds === undefined || endTokenIds.every((id) => config.eosTokenIds.includes(id));
  await writeCheckpoint(folder, {
    configJson: { ...configJson },
    tensors: [...values].map(([name, data]) => ({ name, data })),
    dtype: "f32",
    filesFrom,
    ...(isNamed ? {} : { generationConfigJson: await generationConfigWith(filesFrom, endTokenIds) }),
  });
}

async function generationConfigWith(
  folder: string,
  endTokenIds: readonly number[],
): Promise<Readonly<Record<string, unknown>>> {
  const path = join(folder, "generation_config.json");
  const before = existsSync(path) ? readModelJson(path) : {};
  return { ...Object.fromEntries(Object.entries(before ?? {})), eos_token_id: [...endTokenIds] };
}
