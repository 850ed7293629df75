// A model's weights on a device: all parameters in one arena, loaded from a Hugging Face folder and saved to one.
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  type Backend,
  CheckpointError,
  type HalfEntry,
  HalfWeights,
  matrixUnits,
  type OperandPrecision,
  ParameterArena,
  smallestBeyondHalf,
  writeElements,
} from "../engine/index.ts";
import { readAdapterConfig } from "./adapter-config.ts";
import { type Checkpoint, openCheckpoint, openConfig, readModelJson } from "./checkpoint-files.ts";
import type { LanguageModel } from "./language-model.ts";
import { mergeAdapter } from "./lora.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

export interface WeightOptions {
  /** Make room for gradients and the optimiser's two moments. Default false. */
  trainable?: boolean;
  /** Make room for gradients alone. Default: as `trainable`. */
  gradients?: boolean;
  /** f64 on the CPU backend, for reference values. Default f32. */
  dtype?: "f32" | "f64";
  /** Receives the notes for the user about how the folder was read. Default: prints to standard error. */
  note?: (sentence: string) => void;
  /**
   * Whether weights have the copies that forward products read. Without them a product makes them again each time.
   * Default true.
   */
  forwardCopies?: boolean;
  /**
   * mixed: linear layers read their operands in f16 (the weights themselves stay f32), and so do the head and the
   * forward pass of attention if the adapter has matrix units. Default f32.
   */
  precision?: "f32" | "mixed";
}

/** An arena with the parameters of a model, all zero. */
export function makeWeights(backend: Backend, config: LanguageModel, options: WeightOptions = {}): ParameterArena {
  const { trainable = false, gradients = trainable, dtype = "f32", precision = "f32", forwardCopies = true } = options;
  const head = config.headName();
  const parameters = new Map(
    [...config.parameters()].map(([name, { shape, role, group }]) => {
      const isLinear = role === "linear";
      const isMixed = isLinear || (name === head && matrixUnits(backend) !== null);
      const halfCopies = isMixed && precision === "mixed";
      return [name, { shape, isLinear, forwardCopy: forwardCopies && (isLinear || name === head), halfCopies, group }];
    }),
  );
  return new ParameterArena(backend, parameters, { trainable, gradients, dtype });
}

/** The weights of a model in f16 for the forward pass alone. Their content is undefined until they are loaded. */
export function makeHalfWeights(backend: Backend, config: LanguageModel): HalfWeights {
  return new HalfWeights(backend, halfEntries(config));
}

/** Matrices are f16; norms and biases are f32. */
export function halfEntries(config: LanguageModel): Map<string, HalfEntry> {
  return new Map(
    [...config.parameters()].map(([name, { shape, role, group }]) => [
      name,
      { shape, isHalf: role === "linear" || role === "embedding", group },
    ]),
  );
}

/** Loads an open checkpoint in f16, piece by piece, without an f32 copy of a matrix on the device. */
export async function loadHalfWeights(backend: Backend, checkpoint: Checkpoint, folder: string): Promise<HalfWeights> {
  const entries = halfEntries(checkpoint.config);
  const weights = new HalfWeights(backend, entries);
  let pending = 0;
  for (const name of checkpoint.shapes.keys()) {
    const loader = weights.loader(name);
    for await (const { start, data } of checkpoint.chunks(name)) {
      if (entries.get(name)?.isHalf) expectHalfRange(folder, name, start, data);
      loader.push(data);
      pending += data.byteLength;
      if (pending < piecesAtOnceBytes) continue;
      await backend.idle();
      pending = 0;
    }
    loader.end();
  }
  return weights;
}

/** @throws CheckpointError when f16 does not hold a number */
function expectHalfRange(folder: string, name: string, start: number, data: Float32Array): void {
  const bad = data.findIndex((value) => !(Math.abs(value) < smallestBeyondHalf));
  if (bad >= 0)
    throw new CheckpointError(
      `${folder}: ${name}: element ${start + bad} is ${data[bad]}: expected a number within ±65504, the range of f16. ` +
        "Use --precision f32.",
    );
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
      writeElements(arena.value(name), start, data);
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

/** A model for generation and scoring alone. */
export interface InferenceModel {
  readonly backend: Backend;
  readonly config: LanguageModel;
  readonly weights: ParameterArena | HalfWeights;
}

/**
 * Opens a Hugging Face folder, checks it, and loads its weights for generation and scoring, in f32 or f16.
 * @param options  `adapter`: the folder of a LoRA adapter of peft, merged into the weights
 * @throws CheckpointError when `precision` is f16 and a matrix holds a number that f16 does not
 */
export async function loadForInference(
  backend: Backend,
  folder: string,
  precision: OperandPrecision,
  options: Pick<WeightOptions, "note"> & { readonly adapter?: string } = {},
): Promise<InferenceModel> {
  const checkpoint = await openMerged(folder, options.adapter ?? "");
  const { note = (sentence: string) => process.stderr.write(`${sentence}\n`) } = options;
  checkpoint.notes.forEach((sentence) => void note(sentence));
  try {
    const load = precision === "f32" ? loadWeights(backend, checkpoint) : loadHalfWeights(backend, checkpoint, folder);
    return { backend, config: checkpoint.config, weights: await load };
  } finally {
    await checkpoint.close();
  }
}

/** Opens a model with a LoRA adapter of peft merged into it, if one is named. @throws CheckpointError as `mergeAdapter` */
export async function openMerged(folder: string, adapter: string): Promise<Checkpoint> {
  const config = adapter === "" ? null : readAdapterConfig(adapter);
  const checkpoint = await openCheckpoint(folder);
  if (config === null) return checkpoint;
  try {
    return await mergeAdapter(checkpoint, config);
  } catch (thrown) {
    await checkpoint.close();
    throw thrown;
  }
}

/** The configuration of a model with an adapter merged into it, which can untie the head or change the vocabulary. */
export async function openMergedConfig(folder: string, adapter: string): Promise<LanguageModel> {
  if (adapter === "") return (await openConfig(folder)).config;
  const checkpoint = await openMerged(folder, adapter);
  await checkpoint.close();
  return checkpoint.config;
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
