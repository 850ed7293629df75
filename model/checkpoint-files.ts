// A model as a Hugging Face folder: config.json, generation_config.json, weights in one safetensors file or in shards with
// an index, and the tokenizer's files. transformers and vLLM load what is written here unchanged.
//
// Before the first weight is used, the tensors of all files are compared with the parameters that config.json implies, and
// everything missing, surplus or misshaped is named at once. A folder is written beside its place and renamed when whole.
import { existsSync, readdirSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { asError, CheckpointError, withoutByteOrderMark, writeAtomic } from "../engine/host/index.ts";
import { ShapeError, sizeOf, storedBytes } from "../engine/index.ts";
import { writeFolderAtomically } from "./atomic-folder.ts";
import { type GenerationConfig, parseGenerationConfig } from "./config.ts";
import { openLanguageModel } from "./families.ts";
import { type LanguageModel, parameterShapes } from "./language-model.ts";
import { openSafetensors, type SafetensorsFile, type TensorToWrite, writeSafetensors } from "./safetensors.ts";

/** A weight as plain numbers: [out, in] for a matrix, whatever the file stored widened to f32. */
export interface Weight {
  readonly shape: readonly number[];
  /** What the file holds; `data` is f32 in any case. */
  readonly dtype: WeightDtype;
  readonly data: Float32Array;
}
export type WeightDtype = "f64" | "f32" | "f16" | "bf16";

const weightsFile = "model.safetensors";
const indexFile = "model.safetensors.index.json";
const generationFile = "generation_config.json";

/** The files that make a tokenizer, in any of Hugging Face's versions. */
export const tokenizerFiles: readonly string[] = [
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "chat_template.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
];

/** An open model folder whose files were found to hold exactly the parameters that its config.json implies. */
export class Checkpoint {
  readonly folder: string;
  readonly config: LanguageModel;
  /** config.json as it stands, to be written again with the trained weights. */
  readonly configJson: Readonly<Record<string, unknown>>;
  readonly generationConfig: GenerationConfig | null;
  /** Every parameter, by Hugging Face's name, in the order of the module tree. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly #files: readonly SafetensorsFile[];
  readonly #places: ReadonlyMap<string, Place>;

  constructor(folder: string, settings: FolderSettings, files: readonly SafetensorsFile[], places: Map<string, Place>) {
    this.folder = folder;
    this.config = settings.config;
    this.configJson = settings.configJson;
    this.generationConfig = settings.generationConfig;
    this.shapes = parameterShapes(settings.config);
    this.#files = files;
    this.#places = places;
  }

  /** @throws ShapeError when the model has no parameter of that name */
  async tensor(name: string): Promise<Weight> {
    const { file, stored, dtype, shape } = this.#place(name);
    return { shape, dtype, data: await file.readFloat32(stored) };
  }

  /** A weight piece by piece in f32, so that memory holds one piece at a time. `start` counts elements. */
  async *chunks(name: string, elements?: number): AsyncGenerator<{ start: number; data: Float32Array }> {
    const { file, stored } = this.#place(name);
    for await (const { start, data } of file.readChunks(stored, elements))
      yield { start, data: data instanceof Float32Array ? data : Float32Array.from(data, Number) };
  }

  /** The dtype in which a weight is stored. */
  dtype(name: string): WeightDtype {
    return this.#place(name).dtype;
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new ShapeError(`${this.folder}: the model has no parameter "${name}"`);
    return place;
  }
}

interface Place {
  file: SafetensorsFile;
  stored: string;
  dtype: WeightDtype;
  shape: readonly number[];
}

interface FolderSettings {
  config: LanguageModel;
  configJson: Record<string, unknown>;
  generationConfig: GenerationConfig | null;
}

/**
 * Opens a model folder and checks that its weights are whole. The caller closes it.
 * Names may lack the `model.` prefix, as the bare Qwen2Model saves them. `lm_head.weight` is ignored where the head is the
 * embedding (tie_word_embeddings), as transformers does.
 * @throws CheckpointError listing every missing, surplus and misshaped tensor
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await filesOf(folder);
  const settings = await readSettings(folder, names);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of await weightFiles(folder, names)) files.push(await openSafetensors(join(folder, name)));
    return new Checkpoint(folder, settings, files, placeWeights(folder, settings.config, files));
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

/** Configuration of a model folder whose weights do not matter, or are not there yet. @throws CheckpointError */
export async function openConfig(folder: string): Promise<Pick<Checkpoint, "config" | "configJson">> {
  return readSettings(folder, await filesOf(folder));
}

async function filesOf(folder: string): Promise<Set<string>> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw new CheckpointError(
      `${folder}: expected a model folder in Hugging Face's layout, it cannot be read: ${asError(error).message}`,
      { cause: error },
    );
  });
  if (!names.includes("config.json"))
    throw new CheckpointError(`${folder}: expected a model folder in Hugging Face's layout, config.json is missing.`);
  return new Set(names);
}

async function readSettings(folder: string, names: ReadonlySet<string>): Promise<FolderSettings> {
  const configPath = join(folder, "config.json");
  const configJson = await readJson(configPath);
  const config = openLanguageModel(configJson, configPath);
  const generationPath = join(folder, generationFile);
  const generationConfig = names.has(generationFile)
    ? parseGenerationConfig(await readJson(generationPath), generationPath)
    : null;
  const eosTokenIds = generationConfig?.eosTokenIds.length ? generationConfig.eosTokenIds : config.eosTokenIds;
  return { config: { ...config, eosTokenIds }, configJson: record.parse(configJson), generationConfig };
}

const record = z.record(z.string(), z.unknown());

/** The JSON of a file of a model folder. @throws CheckpointError when it cannot be read or is no JSON */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(withoutByteOrderMark(await readFile(path, "utf8")));
  } catch (error) {
    throw new CheckpointError(`${path}: expected a JSON file: ${asError(error).message}`, { cause: error });
  }
}

// One file, or the shards that the index names. As in transformers, the one file comes first.
async function weightFiles(folder: string, names: ReadonlySet<string>): Promise<string[]> {
  if (names.has(weightsFile)) return [weightsFile];
  if (!names.has(indexFile)) {
    const other = [...names].find((name) => /\.(bin|pt|pth|gguf|h5|msgpack)$/.test(name));
    throw new CheckpointError(
      `${folder}: expected ${weightsFile} or ${indexFile}, found neither${
        other === undefined ? "" : `, but ${other}. Save the model with safe_serialization=True`
      }.`,
    );
  }
  const path = join(folder, indexFile);
  const shards = await shardsOf(path);
  const faults = shards
    .filter((shard) => shard !== basename(shard) || !names.has(shard))
    .map((shard) => `expected the file ${JSON.stringify(shard)} in the same folder, it is not there`);
  if (faults.length > 0) refuse(path, faults, "Was the download interrupted?");
  return shards;
}

/** The files that an index names, in alphabetic order. @throws CheckpointError when it is no index */
export async function shardsOf(indexPath: string): Promise<string[]> {
  const parsed = z.object({ weight_map: z.record(z.string(), z.string()) }).safeParse(await readJson(indexPath));
  if (!parsed.success) throw new CheckpointError(`${indexPath}: expected {"weight_map": {tensor: file}}.`);
  return [...new Set(Object.values(parsed.data.weight_map))].sort();
}

/** Whether a folder has config.json and, if asked for, all files of the weights; what is in them is not looked at. */
export async function isWhole(folder: string, weights: boolean): Promise<boolean> {
  // A link to nothing is no file.
  const names = new Set(existsSync(folder) ? readdirSync(folder).filter((name) => existsSync(join(folder, name))) : []);
  if (!names.has("config.json")) return false;
  return (
    !weights ||
    weightFiles(folder, names).then(
      () => true,
      () => false,
    )
  );
}

function placeWeights(folder: string, config: LanguageModel, files: readonly SafetensorsFile[]): Map<string, Place> {
  const shapes = parameterShapes(config);
  const places = new Map<string, Place>();
  const found = new Set<string>();
  const faults: string[] = [];
  for (const file of files)
    for (const { name: stored, shape, dtype } of file.tensors.values()) {
      const name = shapes.has(stored) ? stored : `model.${stored}`;
      const expected = shapes.get(name);
      const where = `${basename(file.path)}: "${stored}"`;
      if (expected === undefined) {
        if (!isIgnored(stored, config)) faults.push(`${where} [${shape}] is no parameter of this model`);
        continue;
      }
      if (found.has(name)) faults.push(`${where} is there twice`);
      found.add(name);
      if (String(shape) !== String(expected)) faults.push(`${where} is [${shape}], config.json gives [${expected}]`);
      if (dtype === "f32" || dtype === "bf16" || dtype === "f16" || dtype === "f64")
        places.set(name, { file, stored, dtype, shape });
      else faults.push(`${where} is stored as ${dtype}, expected floats: quantised weights are not supported`);
    }
  for (const [name, shape] of shapes) if (!found.has(name)) faults.push(`"${name}" [${shape}] is missing`);
  if (faults.length > 0)
    refuse(folder, faults, "Are config.json and the weights from one model, and is the download whole?");
  return places;
}

// A head that is the embedding, and the rotary frequencies that old checkpoints saved: transformers drops both.
function isIgnored(name: string, config: LanguageModel): boolean {
  return (config.tieWordEmbeddings && name === "lm_head.weight") || name.endsWith(".rotary_emb.inv_freq");
}

const listedFaults = 20;
function refuse(where: string, faults: readonly string[], mend: string): never {
  const listed = faults.slice(0, listedFaults).map((fault) => `\n  ${fault}`);
  if (faults.length > listedFaults) listed.push(`\n  and ${faults.length - listedFaults} more`);
  throw new CheckpointError(
    faults.length === 1
      ? `${where}: ${faults[0]}. ${mend}`
      : `${where}: ${faults.length} faults. ${mend}${listed.join("")}`,
  );
}

export interface NamedTensor {
  name: string;
  data: Float32Array | (() => Float32Array | Promise<Float32Array>);
}

/** What goes into a model folder. */
export interface CheckpointToWrite {
  /** config.json of the model that was trained; architecture and dtype are set to what is written. */
  configJson: Readonly<Record<string, unknown>>;
  /** One for each parameter, in any order; a function brings the numbers when their turn comes. */
  tensors: Iterable<NamedTensor>;
  /** How weights are stored (default f32, which loses nothing). */
  dtype?: WrittenDtype;
  /** Largest data of one file, bytes; a larger tensor has a file of its own. Default: one file, whatever its size. */
  shardBytes?: number;
  /** The folder whose tokenizer files and generation_config.json are copied byte for byte. */
  filesFrom?: string;
  /** Written as generation_config.json in place of the copied one. */
  generationConfigJson?: Readonly<Record<string, unknown>>;
}

/** What weights can be written as. */
export const writtenDtypes = ["f32", "bf16", "f16"] as const;
export type WrittenDtype = (typeof writtenDtypes)[number];
const torchDtypes = { f32: "float32", bf16: "bfloat16", f16: "float16" } as const;

/**
 * Writes a model folder that transformers loads unchanged; it appears whole or not at all. The same content gives the same
 * bytes. A folder of that name is replaced.
 * @throws CheckpointError when config.json is not sound or a weight does not fit the dtype, FileError when the disk refuses;
 *   ShapeError when a tensor is missing, surplus or given twice
 */
export async function writeCheckpoint(folder: string, content: CheckpointToWrite): Promise<void> {
  const { configJson, dtype = "f32", shardBytes = Number.POSITIVE_INFINITY, filesFrom, generationConfigJson } = content;
  const model = openLanguageModel(configJson, `${folder}: config.json`);
  const shapes = parameterShapes(model);
  const tensors = matchTensors(folder, shapes, [...content.tensors]).map((tensor) => ({ ...tensor, dtype }));
  await writeFolderAtomically(folder, async (partial) => {
    if (filesFrom !== undefined)
      for (const name of await readdir(filesFrom))
        if (tokenizerFiles.includes(name) || name === generationFile)
          writeAtomic(join(partial, name), await readFile(join(filesFrom, name)));
    if (generationConfigJson !== undefined) writeAtomic(join(partial, generationFile), jsonText(generationConfigJson));
    writeAtomic(join(partial, "config.json"), jsonText(describeWritten(configJson, model.architecture, dtype)));
    const shards = cutIntoShards(tensors, shardBytes);
    for (const [i, shard] of shards.entries())
      await writeSafetensors(join(partial, shardName(i, shards.length)), shard);
    if (shards.length > 1) writeAtomic(join(partial, indexFile), jsonText(describeShards(shards)));
  });
}

// In order and greedily, as transformers cuts, so that each file is named and filled as there. A tensor beyond the limit has
// a file of its own, and does not end the one before it.
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

// One tensor for each parameter, sorted by name as transformers sorts them.
function matchTensors(
  folder: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  tensors: readonly NamedTensor[],
): (NamedTensor & { shape: readonly number[] })[] {
  const given = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const faults = [...given.keys()].filter((name) => !shapes.has(name)).map((name) => `${name} is no parameter`);
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

// transformers 5 loads weights in the dtype that config.json names, so it must be the one written. The spelling stays.
function describeWritten(
  configJson: Readonly<Record<string, unknown>>,
  architecture: string,
  dtype: WrittenDtype,
): object {
  const fields = ["dtype", "torch_dtype"].filter((field) => field in configJson);
  const named = (fields.length > 0 ? fields : ["torch_dtype"]).map((field) => [field, torchDtypes[dtype]]);
  return { ...configJson, architectures: [architecture], ...Object.fromEntries(named) };
}

function jsonText(json: object): string {
  return `${JSON.stringify(json, null, 2)}\n`;
}
