// Reads a model as a Hugging Face folder: config.json, generation_config.json, weights in one safetensors file or in shards
// with an index, and the tokenizer's files.
//
// Before the first weight is used, the tensors of all files are compared with the parameters that config.json implies, and
// everything missing, surplus or misshaped is named at once.
import { existsSync, readdirSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { ShapeError } from "../engine/index.ts";
import {
  type GenerationConfig,
  parameterShapes,
  parseConfig,
  parseGenerationConfig,
  type Qwen2Config,
} from "./config.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";

/** A weight as plain numbers: [out, in] for a matrix, whatever the file stored widened to f32. */
export interface Weight {
  readonly shape: readonly number[];
  /** What the file holds; `data` is f32 in any case. */
  readonly dtype: WeightDtype;
  readonly data: Float32Array;
}
export type WeightDtype = "f64" | "f32" | "f16" | "bf16";

export const weightsFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";
export const generationFile = "generation_config.json";

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
  readonly config: Qwen2Config;
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
  config: Qwen2Config;
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
  const config = parseConfig(configJson, configPath);
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
    return JSON.parse(await readFile(path, "utf8"));
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

function placeWeights(folder: string, config: Qwen2Config, files: readonly SafetensorsFile[]): Map<string, Place> {
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
function isIgnored(name: string, config: Qwen2Config): boolean {
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
