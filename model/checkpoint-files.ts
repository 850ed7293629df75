// Reads a model as a Hugging Face folder: config.json, generation_config.json, weights in one safetensors file or in shards
// with an index, and the tokenizer's files.
//
// Before the first weight is used, the tensors of all files are compared with the parameters that config.json implies, and
// everything missing, surplus or misshaped is named at once.
import { existsSync, readdirSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { asError, CheckpointError, readText } from "../engine/host/index.ts";
import { ShapeError } from "../engine/index.ts";
import { type GenerationConfig, type Json, parseGenerationConfig } from "./config.ts";
import { openLanguageModel } from "./families.ts";
import { type LanguageModel, parameterShapes } from "./language-model.ts";
import { isLlama, qwen2OfLlama } from "./llama.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import {
  holdSameNumbers,
  type Piece,
  readAll,
  storedTensor,
  type WeightDtype,
  type WeightSource,
  zeros,
} from "./weight-source.ts";

/** A weight as plain numbers: [out, in] for a matrix, widened from the file's dtype to f32. */
export interface Weight {
  readonly shape: readonly number[];
  /** The dtype in the file; `data` is always f32. */
  readonly dtype: WeightDtype;
  readonly data: Float32Array;
}

export const weightsFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";
export const generationFile = "generation_config.json";
export const adapterConfigFile = "adapter_config.json";
const configFile = "config.json";

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

/** An open model folder whose files hold exactly the parameters that its config.json implies (this was checked). */
export class Checkpoint {
  readonly folder: string;
  readonly config: LanguageModel;
  /** config.json of the loaded model, to be written again with the trained weights. */
  readonly configJson: Json;
  readonly generationConfig: GenerationConfig | null;
  /** What a user should know about how this folder was read, one sentence per entry. */
  readonly notes: readonly string[];
  /** Every parameter, by Hugging Face's name, in the order of the module tree. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly #files: readonly SafetensorsFile[];
  readonly #sources: ReadonlyMap<string, WeightSource>;

  constructor(
    folder: string,
    settings: Pick<FolderSettings, "config" | "configJson" | "generationConfig" | "notes">,
    files: readonly SafetensorsFile[],
    sources: ReadonlyMap<string, WeightSource>,
  ) {
    this.folder = folder;
    this.config = settings.config;
    this.configJson = settings.configJson;
    this.generationConfig = settings.generationConfig;
    this.notes = settings.notes;
    this.shapes = parameterShapes(settings.config);
    this.#files = files;
    this.#sources = sources;
  }

  /** @throws ShapeError when the model has no parameter of that name */
  async tensor(name: string): Promise<Weight> {
    const source = this.source(name);
    return { shape: source.shape, dtype: source.dtype, data: await readAll(source) };
  }

  /** A weight piece by piece in f32, so that memory holds one piece at a time. `start` counts elements. */
  chunks(name: string, elements?: number): AsyncGenerator<Piece> {
    return this.source(name).pieces(elements);
  }

  /** The dtype in which a weight is stored. */
  dtype(name: string): WeightDtype {
    return this.source(name).dtype;
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }

  /** @throws ShapeError when the model has no parameter of that name */
  source(name: string): WeightSource {
    const source = this.#sources.get(name);
    if (source === undefined) throw new ShapeError(`${this.folder}: the model has no parameter "${name}"`);
    return source;
  }
}

/** The contents of a model folder's configuration files. */
interface FolderSettings {
  config: LanguageModel;
  configJson: Json;
  generationConfig: GenerationConfig | null;
  /** True if the files hold no biases, which are zero then. */
  lacksBiases: boolean;
  notes: readonly string[];
}

/**
 * Opens a model folder and checks that its weights are whole. The caller closes it.
 * - Names may lack the `model.` prefix, as the bare Qwen2Model saves them.
 * - If config.json ties the head to the embedding, the files may hold either of them, or two equal copies, which become
 *   one
 *   tensor. If two differing tensors are stored, both are kept and the model is untied, as in transformers 5; `notes`
 *   says so.
 * - A Llama is read as a Qwen2 with zero biases (llama.ts).
 * @throws CheckpointError listing every missing, surplus and misshaped tensor
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await filesOf(folder);
  const declared = await readSettings(folder, names);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of await weightFiles(folder, names)) files.push(await openSafetensors(join(folder, name)));
    const sources = findWeights(folder, declared, files);
    return new Checkpoint(folder, await settleHead(folder, declared, sources), files, sources);
  } catch (error) {
    for (const file of files) await file.close();
    throw error;
  }
}

/**
 * Configuration of a model folder. If the folder has weights, they decide whether the head is tied (see
 * `openCheckpoint`); without weights config.json decides.
 * @param options  weights: false to use config.json alone, even if there are weights
 * @throws CheckpointError
 */
export async function openConfig(
  folder: string,
  { weights = true }: { weights?: boolean } = {},
): Promise<Pick<Checkpoint, "config" | "configJson">> {
  const declared = await readSettings(folder, await filesOf(folder));
  if (!weights || !declared.config.tieWordEmbeddings || !(await isWhole(folder, true))) return declared;
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  return checkpoint;
}

async function filesOf(folder: string): Promise<Set<string>> {
  const expected = `${folder}: expected a model folder in Hugging Face's layout`;
  const names = await readdir(folder).catch((error: unknown) => {
    throw new CheckpointError(`${expected}, it cannot be read: ${asError(error).message}`, { cause: error });
  });
  if (names.includes(adapterConfigFile))
    throw new CheckpointError(
      `${expected}, this is a LoRA adapter (${adapterConfigFile}). Merge it into its base model first, then use the merged ` +
        `folder: node model/export.ts --model ${folder} --out MERGED`,
    );
  if (names.includes(configFile)) return new Set(names);
  const inside = modelsInside(folder);
  throw new CheckpointError(
    inside.length === 0
      ? `${expected}, ${configFile} is missing.`
      : `${expected}, this folder holds several models. Name one of them: ${inside.join(", ")}`,
  );
}

/** Folders of models in a folder or one level deeper: checkpoints of a training run. */
function modelsInside(folder: string): string[] {
  const isModel = (path: string): boolean =>
    existsSync(join(path, configFile)) || existsSync(join(path, adapterConfigFile));
  const foldersIn = (path: string): string[] => {
    try {
      return readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
        .map((entry) => join(path, entry.name))
        .sort(inNumericOrder);
    } catch {
      return []; // no permission to read this folder: it suggests no models
    }
  };
  const inside = foldersIn(folder);
  const models = inside.filter(isModel);
  return models.length > 0 ? models : inside.flatMap(foldersIn).filter(isModel);
}

function inNumericOrder(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

async function readSettings(folder: string, names: ReadonlySet<string>): Promise<FolderSettings> {
  const { configJson, lacksBiases, notes } = readConfigFile(join(folder, configFile));
  const config = openLanguageModel(configJson, join(folder, configFile));
  const generationPath = join(folder, generationFile);
  const generationConfig = names.has(generationFile)
    ? parseGenerationConfig(readModelJson(generationPath), generationPath)
    : null;
  const eosTokenIds = generationConfig?.eosTokenIds.length ? generationConfig.eosTokenIds : config.eosTokenIds;
  return { config: { ...config, eosTokenIds }, configJson, generationConfig, lacksBiases, notes };
}

const record = z.record(z.string(), z.unknown());

/**
 * config.json, unchanged unless it describes a Llama: then that of the Qwen2 that computes the same.
 * @throws CheckpointError when the file cannot be read, or describes a Llama that no Qwen2 equals
 */
export function readConfigFile(path: string): Pick<FolderSettings, "configJson" | "lacksBiases" | "notes"> {
  const parsed = record.safeParse(readModelJson(path));
  if (!parsed.success) throw new CheckpointError(`${path}: expected a JSON object.`);
  if (!isLlama(parsed.data)) return { configJson: parsed.data, lacksBiases: false, notes: [] };
  return {
    configJson: qwen2OfLlama(parsed.data, path),
    lacksBiases: true,
    notes: [`${path}: a Llama, read as an equal Qwen2 with zero biases. Models written from it are Qwen2 models.`],
  };
}

/** The JSON of a file of a model folder. @throws CheckpointError when it cannot be read or is no JSON */
export function readModelJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
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
  const shards = shardsOf(path);
  const faults = shards
    .filter((shard) => shard !== basename(shard) || !names.has(shard))
    .map((shard) => `expected the file ${JSON.stringify(shard)} in the same folder, it is not there`);
  if (faults.length > 0) refuse(path, faults, "Was the download interrupted?");
  return shards;
}

/** The files that an index names, in alphabetic order. @throws CheckpointError when it is no index */
export function shardsOf(indexPath: string): string[] {
  const parsed = z.object({ weight_map: z.record(z.string(), z.string()) }).safeParse(readModelJson(indexPath));
  if (!parsed.success) throw new CheckpointError(`${indexPath}: expected {"weight_map": {tensor: file}}.`);
  return [...new Set(Object.values(parsed.data.weight_map))].sort();
}

/** Whether a folder has config.json and, if asked for, all weight files. The contents are not checked. */
export async function isWhole(folder: string, weights: boolean): Promise<boolean> {
  // A link whose target is gone does not count as a file.
  const names = new Set(existsSync(folder) ? readdirSync(folder).filter((name) => existsSync(join(folder, name))) : []);
  if (!names.has(configFile)) return false;
  return (
    !weights ||
    weightFiles(folder, names).then(
      () => true,
      () => false,
    )
  );
}

/**
 * The files that define a model: configuration, weights and tokenizer, in alphabetic order. Other files in the folder
 * (a trainer's state, notes) do not affect any result.
 * @throws CheckpointError when the folder is not a model folder, or weights are missing
 */
export async function modelFiles(folder: string): Promise<string[]> {
  const names = await filesOf(folder);
  const weights = await weightFiles(folder, names);
  const index = weights.includes(weightsFile) ? [] : [indexFile];
  const others = [configFile, generationFile, ...tokenizerFiles].filter((name) => names.has(name));
  return [...others, ...index, ...weights].sort();
}

/** Whether a file of this name can be part of a model, whatever its folder holds. */
export function isModelFile(name: string): boolean {
  return [configFile, generationFile, ...tokenizerFiles].includes(name) || /^model.*\.safetensors$/.test(name);
}

/** Names of a model's embedding and head if these are two tensors. */
export function endsOf(config: LanguageModel): { embedding: string; head: string } {
  return {
    embedding: { ...config, tieWordEmbeddings: true }.headName(),
    head: { ...config, tieWordEmbeddings: false }.headName(),
  };
}

/** The sources of all parameters by name. A tied model's head is among them if a file has one. */
function findWeights(
  folder: string,
  { config, lacksBiases }: FolderSettings,
  files: readonly SafetensorsFile[],
): Map<string, WeightSource> {
  const { embedding, head } = endsOf(config);
  const shapes = parameterShapes({ ...config, tieWordEmbeddings: false });
  const sources = new Map<string, WeightSource>();
  const found = new Set<string>();
  const faults: string[] = [];
  for (const file of files)
    for (const { name: stored, shape, dtype } of file.tensors.values()) {
      const name = shapes.has(stored) ? stored : `model.${stored}`;
      const expected = shapes.get(name);
      const where = `${basename(file.path)}: "${stored}"`;
      // Old checkpoints hold the rotary frequencies. They follow from config.json, and transformers ignores them.
      if (stored.endsWith(".rotary_emb.inv_freq")) continue;
      if (expected === undefined || (lacksBiases && name.endsWith(".bias"))) {
        faults.push(`${where} [${shape}] is not a parameter of this model`);
        continue;
      }
      if (found.has(name)) faults.push(`${where} is stored twice`);
      found.add(name);
      if (String(shape) !== String(expected)) faults.push(`${where} is [${shape}], config.json gives [${expected}]`);
      const source = storedTensor(file, stored);
      if (source !== null) sources.set(name, source);
      else faults.push(`${where} is stored as ${dtype}, expected floats: quantised weights are not supported`);
    }
  for (const [name, shape] of shapes) {
    if (found.has(name)) continue;
    const weight = sources.get(name.replace(/\.bias$/, ".weight"));
    if (lacksBiases && name.endsWith(".bias")) sources.set(name, zeros(shape, weight?.dtype ?? "f32"));
    // A tied model needs the embedding or the head, not both.
    else if (!config.tieWordEmbeddings || (name === embedding ? !found.has(head) : name !== head))
      faults.push(`"${name}" [${shape}] is missing`);
  }
  if (faults.length > 0)
    refuse(folder, faults, "Are config.json and the weights from one model, and is the download whole?");
  return sources;
}

/**
 * Merges head and embedding into one tensor if the model is tied. If two different tensors are stored, it unties the
 * model.
 */
async function settleHead(
  folder: string,
  settings: FolderSettings,
  sources: Map<string, WeightSource>,
): Promise<FolderSettings> {
  if (!settings.config.tieWordEmbeddings) return settings;
  const { embedding, head } = endsOf(settings.config);
  const atInput = sources.get(embedding);
  const atOutput = sources.get(head);
  if (atInput !== undefined && atOutput !== undefined && !(await holdSameNumbers(atInput, atOutput)))
    return {
      ...settings,
      config: { ...settings.config, tieWordEmbeddings: false },
      configJson: { ...settings.configJson, tie_word_embeddings: false },
      notes: [
        ...settings.notes,
        `${folder}: ${configFile} says tie_word_embeddings, but the weights hold an embedding and a head that differ. Both ` +
          'are used and the model is untied, as in transformers. Say "tie_word_embeddings": false there if that is meant.',
      ],
    };
  if (atInput === undefined && atOutput !== undefined) sources.set(embedding, atOutput);
  sources.delete(head);
  return settings;
}

const listedFaults = 20;

/** @throws CheckpointError that lists the faults of a file or folder */
export function refuse(where: string, faults: readonly string[], mend: string): never {
  const listed = faults.slice(0, listedFaults).map((fault) => `\n  ${fault}`);
  if (faults.length > listedFaults) listed.push(`\n  and ${faults.length - listedFaults} more`);
  throw new CheckpointError(
    faults.length === 1
      ? `${where}: ${faults[0]}. ${mend}`
      : `${where}: ${faults.length} faults. ${mend}${listed.join("")}`,
  );
}
