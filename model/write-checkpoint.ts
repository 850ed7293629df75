// Writes a model as a Hugging Face folder: config.json, generation_config.json, weights in one safetensors file or in shards
// with an index, and the tokenizer's files. transformers and vLLM load the folder unchanged. It is written under a
// hidden name and renamed when it is whole.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../engine/host/index.ts";
import { ShapeError, sizeOf, storedBytes } from "../engine/index.ts";
import { writeFolderAtomically } from "./atomic-folder.ts";
import { generationFile, indexFile, tokenizerFiles, weightsFile } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";
import { completeConfig, openLanguageModel } from "./families.ts";
import { parameterShapes } from "./language-model.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors.ts";

export interface NamedTensor {
  name: string;
  data: Float32Array | (() => Float32Array | Promise<Float32Array>);
}

/** The content of a model folder. */
export interface CheckpointToWrite {
  /** config.json of the original model. Architecture and dtype are set to those written, and missing keys are added. */
  configJson: Json;
  /** One tensor per parameter, in any order. Values given as a function are computed when the tensor is written. */
  tensors: Iterable<NamedTensor>;
  /** Dtype of the written weights (default f32, which loses nothing). */
  dtype?: WrittenDtype;
  /** Maximum bytes of tensor data per file; a larger tensor gets a separate file. Default: one file of any size. */
  shardBytes?: number;
  /**
   * The folders whose tokenizer files and generation_config.json are copied byte for byte. The tokenizer comes whole
   * from the first folder that has one, and generation_config.json from the first that has it.
   */
  filesFrom?: string | readonly string[];
  /** Written as generation_config.json instead of a copy. */
  generationConfigJson?: Json;
}

/** The dtypes in which weights can be written. */
export const writtenDtypes = ["f32", "bf16", "f16"] as const;
export type WrittenDtype = (typeof writtenDtypes)[number];
const torchDtypes = { f32: "float32", bf16: "bfloat16", f16: "float16" } as const;

/**
 * Writes a model folder that transformers loads unchanged; it appears whole or not at all. The same content gives the same
 * bytes. An existing folder of that name is replaced.
 * @throws CheckpointError when config.json is not valid or a weight does not fit the dtype; FileError on a disk error;
 *   ShapeError when a tensor is missing, surplus or given twice
 */
export async function writeCheckpoint(folder: string, content: CheckpointToWrite): Promise<void> {
  const {
    configJson,
    dtype = "f32",
    shardBytes = Number.POSITIVE_INFINITY,
    filesFrom = [],
    generationConfigJson,
  } = content;
  const where = `${folder}: config.json`;
  const model = openLanguageModel(configJson, where);
  const written = describeWritten(completeConfig(configJson, where), model.architecture, dtype);
  const shapes = parameterShapes(model);
  const tensors = matchTensors(folder, shapes, [...content.tensors]).map((tensor) => ({ ...tensor, dtype }));
  await writeFolderAtomically(folder, async (partial) => {
    for (const kind of [tokenizerFiles, [generationFile]])
      await copyFirst(kind, typeof filesFrom === "string" ? [filesFrom] : filesFrom, partial);
    if (generationConfigJson !== undefined) writeAtomic(join(partial, generationFile), jsonText(generationConfigJson));
    writeAtomic(join(partial, "config.json"), jsonText(written));
    const shards = cutIntoShards(tensors, shardBytes);
    for (const [i, shard] of shards.entries())
      await writeSafetensors(join(partial, shardName(i, shards.length)), shard);
    if (shards.length > 1) writeAtomic(join(partial, indexFile), jsonText(describeShards(shards)));
  });
}

/** Copies the files of these names from the first folder that has any of them. */
async function copyFirst(wanted: readonly string[], folders: readonly string[], to: string): Promise<void> {
  for (const folder of folders) {
    const names = (await readdir(folder)).filter((name) => wanted.includes(name));
    for (const name of names) writeAtomic(join(to, name), await readFile(join(folder, name)));
    if (names.length > 0) return;
  }
}

// Shards are filled greedily in order, as in transformers, so that file names and contents are the same. A tensor above
// the limit gets a separate file, and does not end the shard before it.
function cutIntoShards(tensors: readonly TensorToWrite[], shardBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [];
  let open: TensorToWrite[] = [];
  let bytes = 0;
  for (const tensor of tensors) {
    const own = bytesOf(tensor);
    if (own > shardBytes) {
      shards.push([tensor]);
      continue;
    }
    if (bytes + own > shardBytes) {
      shards.push(open);
      open = [];
      bytes = 0;
    }
    open.push(tensor);
    bytes += own;
  }
  return open.length > 0 ? [...shards, open] : shards;
}

function bytesOf({ shape, dtype }: TensorToWrite): number {
  return sizeOf(shape) * storedBytes[dtype];
}

function shardName(shard: number, count: number): string {
  const five = (n: number): string => String(n).padStart(5, "0");
  return count === 1 ? weightsFile : `model-${five(shard + 1)}-of-${five(count)}.safetensors`;
}

function describeShards(shards: readonly (readonly TensorToWrite[])[]): object {
  const all = shards.flat();
  return {
    metadata: {
      total_parameters: all.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
      total_size: all.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    },
    weight_map: Object.fromEntries(
      shards.flatMap((shard, i) => shard.map(({ name }) => [name, shardName(i, shards.length)])),
    ),
  };
}

// One tensor per parameter, sorted by name as in transformers.
function matchTensors(
  folder: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  tensors: readonly NamedTensor[],
): (NamedTensor & { shape: readonly number[] })[] {
  const given = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const faults = [...given.keys()].filter((name) => !shapes.has(name)).map((name) => `${name} is not a parameter`);
  for (const name of shapes.keys()) if (!given.has(name)) faults.push(`${name} was not given`);
  if (given.size < tensors.length) faults.push(`${tensors.length - given.size} names were given twice`);
  if (faults.length > 0) throw new ShapeError(`${folder}: ${faults.join(", ")}`);
  return [...shapes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, shape]) => {
      const tensor = given.get(name);
      return tensor === undefined ? [] : [{ ...tensor, shape }];
    });
}

// transformers loads weights in the dtype that config.json names, so it must name the written dtype: version 5 reads
// `dtype`,
// version 4 `torch_dtype`.
function describeWritten(configJson: Json, architecture: string, dtype: WrittenDtype): object {
  const named = ["dtype", "torch_dtype"]
    .filter((field) => field in configJson)
    .map((field) => [field, torchDtypes[dtype]]);
  return { ...configJson, architectures: [architecture], ...Object.fromEntries(named) };
}

function jsonText(json: object): string {
  return `${JSON.stringify(json, null, 2)}\n`;
}
