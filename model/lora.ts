// Merges a LoRA adapter of peft into its base model: W + scale · B·A for each adapted layer, with scale =
// lora_alpha / r, or lora_alpha / √r with use_rslora. With DoRA each row of this sum is then scaled to its magnitude. W,
// A and B are widened to f32; the result is computed in float64 and rounded once. So the merged weights equal base plus
// adapter in any dtype of the base (peft rounds B·A and the sum to the base's dtype).
//
// A tied model whose embedding and head are no longer equal is untied, since peft adapts each of the two by itself.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError, callWithin } from "../engine/host/index.ts";
import { type AdapterConfig, isSaved, isTargeted, rankOf, scaleOf, tokenRowsOf } from "./adapter-config.ts";
import { adapterConfigFile, Checkpoint, endsOf, refuse } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";
import { type LanguageModel, parameterShapes } from "./language-model.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { holdSameNumbers, readAll, storedTensor, type WeightSource } from "./weight-source.ts";

const adapterWeightsFile = "adapter_model.safetensors";

/**
 * The base model with the adapter merged into it. Closing the result also closes the base.
 * @param base            an open checkpoint; the caller closes it only if this function throws
 * @param patternSeconds  time limit for matching the adapter's patterns with the names of the modules
 * @throws CheckpointError naming every tensor of the adapter that does not fit
 */
export async function mergeAdapter(base: Checkpoint, adapter: AdapterConfig, patternSeconds = 20): Promise<Checkpoint> {
  const path = join(adapter.folder, adapterWeightsFile);
  if (!existsSync(path)) {
    const isPickle = existsSync(join(adapter.folder, "adapter_model.bin"));
    throw new CheckpointError(
      `${path}: not found${isPickle ? ", but adapter_model.bin" : ""}. Only safetensors are read: save the adapter with ` +
        "safe_serialization=True.",
    );
  }
  const file = await openSafetensors(path);
  try {
    const { config, configJson, sources, changed, notes } = await mergedModel(base, adapter, file, patternSeconds);
    const note = `${adapter.folder}: a LoRA adapter, merged into ${base.folder}: ${changed} of ${sources.size} tensors changed.`;
    return new MergedCheckpoint(
      base,
      file,
      { ...base, config, configJson, notes: [...base.notes, note, ...notes] },
      sources,
    );
  } catch (error) {
    await file.close();
    throw error;
  }
}

class MergedCheckpoint extends Checkpoint {
  readonly #base: Checkpoint;

  constructor(
    base: Checkpoint,
    file: SafetensorsFile,
    settings: Pick<Checkpoint, "config" | "configJson" | "generationConfig" | "notes">,
    sources: ReadonlyMap<string, WeightSource>,
  ) {
    super(base.folder, settings, [file], sources);
    this.#base = base;
  }

  override async close(): Promise<void> {
    await super.close();
    await this.#base.close();
  }
}

/** The tensors that an adapter has for a module. */
const kinds = {
  "lora_A.weight": "a",
  "lora_B.weight": "b",
  "lora_B.bias": "addedBias",
  lora_embedding_A: "embeddingA",
  lora_embedding_B: "embeddingB",
  lora_magnitude_vector: "magnitude",
  "token_adapter.trainable_tokens_delta": "tokens",
  // The module's own tensors. With factors beside them they are those of the layer that the factors adapt.
  "base_layer.weight": "weight",
  "base_layer.bias": "bias",
  weight: "weight",
  bias: "bias",
} as const;
type Kind = (typeof kinds)[keyof typeof kinds];

interface Part {
  /** The module's name in peft, by which patterns choose it. */
  readonly named: string;
  readonly tensors: Partial<Record<Kind, WeightSource>>;
  /** The rows that `tokens` replace. */
  readonly tokenRows: readonly number[];
}

/** What is wrong with an adapter. */
interface Faults {
  /** With its base model. */
  readonly base: string[];
  /** With its settings: peft would ignore these tensors, or miss them. */
  readonly settings: string[];
}

interface MergedModel {
  readonly config: LanguageModel;
  readonly configJson: Json;
  readonly sources: Map<string, WeightSource>;
  /** How many tensors are not those of the base model. */
  readonly changed: number;
  readonly notes: readonly string[];
}

async function mergedModel(
  base: Checkpoint,
  adapter: AdapterConfig,
  file: SafetensorsFile,
  patternSeconds: number,
): Promise<MergedModel> {
  const faults: Faults = { base: [], settings: [] };
  const { embedding, head } = endsOf(base.config);
  const isTied = base.config.tieWordEmbeddings;
  const [ofEmbedding, ofHead] = [moduleOf(embedding), moduleOf(head)];
  const untied = { ...base.config, tieWordEmbeddings: false };
  const modules = new Set([...parameterShapes(untied).keys()].map(moduleOf));
  const parts = partsOf(adapter, file, modules, ofEmbedding, faults);

  // Embedding and head of a vocabulary that was resized are in the adapter as a whole.
  const { vocabSize } = base.config;
  const resized = (parts.get(ofEmbedding) ?? parts.get(ofHead))?.tensors.weight?.shape[0] ?? vocabSize;
  const shapes = parameterShapes({ ...untied, vocabSize: resized });

  const sources = new Map<string, WeightSource>();
  const startOf = (name: string): WeightSource => base.source(isTied && name === head ? embedding : name);
  const shareEnds = isTied ? withSharedEnds(adapter, parts, ofEmbedding, ofHead) : parts;
  const matchModules = (): void => {
    for (const [module, part] of shareEnds) {
      const weight = part.tensors.weight ?? startOf(`${module}.weight`);
      const changed = changedWeight(adapter, module, part, weight, faults);
      if (changed !== startOf(`${module}.weight`)) sources.set(`${module}.weight`, changed);
      const bias = changedBias(
        adapter,
        module,
        part,
        shapes.has(`${module}.bias`) ? startOf(`${module}.bias`) : null,
        faults,
      );
      if (bias !== null) sources.set(`${module}.bias`, bias);
    }
    expectComplete(adapter, shareEnds, { modules, ofEmbedding, ofHead, isTied }, faults);
  };
  // The patterns are the adapter's own regular expressions: matching one can take exponential time.
  callWithin(patternSeconds, matchModules, () => {
    const path = join(adapter.folder, adapterConfigFile);
    return new CheckpointError(
      `${path}: its patterns were not matched with the ${modules.size} modules of the base model after ${patternSeconds} s ` +
        "(target_modules, exclude_modules, rank_pattern, alpha_pattern, layers_pattern). Name the modules in place of patterns.",
    );
  });
  if (sources.size === 0 && faults.base.length + faults.settings.length === 0) faults.base.push("it has no tensors");

  const complete = new Map([...shapes.keys()].map((name) => [name, sources.get(name) ?? startOf(name)]));
  for (const [name, shape] of shapes) {
    const found = complete.get(name)?.shape;
    if (String(found) !== String(shape))
      faults.base.push(
        `"${name}" is [${found}], ${resized === vocabSize ? "the base model's" : "that of its vocabulary"} is [${shape}]`,
      );
  }
  if (faults.base.length > 0) refuse(file.path, faults.base, `Is ${base.folder} its base model?`);
  if (faults.settings.length > 0)
    refuse(file.path, faults.settings, `Are ${adapterConfigFile} and the tensors from one adapter?`);

  const ends = [embedding, head].map((name) => complete.get(name) ?? startOf(name));
  const staysTied =
    isTied &&
    ((!sources.has(embedding) && !sources.has(head)) ||
      (!sources.has(head) && adapter.ensure_weight_tying === true) ||
      (await holdSameNumbers(ends[0], ends[1])));
  if (staysTied) complete.delete(head);
  const isUntied = isTied && !staysTied;
  return {
    config: { ...base.config, vocabSize: resized, tieWordEmbeddings: staysTied },
    configJson: {
      ...base.configJson,
      ...(resized === vocabSize ? {} : { vocab_size: resized }),
      ...(isUntied ? { tie_word_embeddings: false } : {}),
    },
    sources: complete,
    changed: [...complete.keys()].filter((name) => sources.has(name)).length,
    notes: isUntied
      ? [
          `${adapter.folder}: embedding and head are tied in ${base.folder}, and differ with the adapter: the merged model is untied.`,
        ]
      : [],
  };
}

const moduleOf = (parameter: string): string => parameter.replace(/\.(weight|bias)$/, "");

/** The tensors of the file by the modules of the base model. */
function partsOf(
  adapter: AdapterConfig,
  file: SafetensorsFile,
  modules: ReadonlySet<string>,
  embedding: string,
  faults: Faults,
): Map<string, Part> {
  const parts = new Map<string, Part>();
  const ends = Object.keys(kinds).join("|").replaceAll(".", "\\.");
  const stored = new RegExp(`^base_model\\.model\\.(.+?)\\.(${ends})$`);
  for (const name of file.tensors.keys()) {
    if (adapter.usesVelora && name.endsWith(".lora_velora_embed")) continue;
    const source = storedTensor(file, name);
    const [, named = "", end = ""] = stored.exec(name) ?? [];
    // An adapter of the bare model, whose names lack the prefix.
    const module = [named, `model.${named}`].find((one) => modules.has(one));
    if (source === null) faults.base.push(`"${name}" is not stored as floats`);
    else if (module === undefined)
      faults.base.push(`"${name}" belongs to no linear layer, norm or embedding of the base model`);
    else {
      const kind = kinds[end as keyof typeof kinds];
      const part = parts.get(module) ?? {
        named,
        tensors: {},
        tokenRows: tokenRowsOf(adapter, named, module === embedding),
      };
      if (kind in part.tensors) faults.base.push(`"${name}" is stored twice`);
      parts.set(module, { ...part, tensors: { ...part.tensors, [kind]: source } });
    }
  }
  return parts;
}

/**
 * Embedding and head of a tied base are one tensor for peft unless it trains one of them by itself: a tensor that
 * replaces one, and rows that were trained one by one, are those of both.
 */
function withSharedEnds(
  adapter: AdapterConfig,
  parts: ReadonlyMap<string, Part>,
  embedding: string,
  head: string,
): Map<string, Part> {
  const all = new Map(parts);
  const share = (from: string, to: string, kind: Kind): void => {
    const given = parts.get(from);
    const own = all.get(to) ?? { named: to, tensors: {}, tokenRows: [] };
    if (given === undefined || !(kind in given.tensors) || kind in own.tensors) return;
    const tokenRows = kind === "tokens" ? given.tokenRows : own.tokenRows;
    all.set(to, { ...own, tokenRows, tensors: { ...own.tensors, [kind]: given.tensors[kind] } });
  };
  const isShared = (module: string): boolean => !isSaved(adapter, parts.get(module)?.named ?? module);
  if (isShared(embedding)) share(embedding, head, "weight");
  if (isShared(head)) share(head, embedding, "weight");
  share(embedding, head, "tokens");
  return all;
}

/** Factors of one layer, as matrices in row order. */
interface Factors {
  readonly rank: number;
  /** [rows, rank] */
  readonly up: () => Promise<Float32Array>;
  /** [rank, columns] */
  readonly down: () => Promise<Float32Array>;
  readonly scale: number;
  /** DoRA: the length of each row after the merge; of an embedding, of each column. */
  readonly magnitude: WeightSource | null;
  readonly magnitudeOf: "row" | "column";
}

/** The weight of a module with the adapter; the given source if the adapter does not change it. */
function changedWeight(
  adapter: AdapterConfig,
  module: string,
  { named, tensors, tokenRows }: Part,
  weight: WeightSource,
  faults: Faults,
): WeightSource {
  const { a, b, embeddingA, embeddingB, magnitude, addedBias, tokens } = tensors;
  const [rows, columns = 0] = weight.shape;
  const has = (kind: Kind): boolean => kind in tensors;
  const isTransposed = has("embeddingA") || has("embeddingB");
  if (!has("a") && !has("b") && !isTransposed) {
    if (has("magnitude") || has("addedBias")) faults.base.push(`"${module}": lora_A and lora_B are missing`);
    if (tokens === undefined) return weight;
    return withRows(module, weight, tokens, tokenRows, faults);
  }
  const [first, second] = isTransposed ? [embeddingA, embeddingB] : [a, b];
  const rank = rankOf(adapter, named);
  // Of an embedding peft stores the factors of the transposed matrix.
  const [outer, inner] = isTransposed ? [columns, rows] : [rows, columns];
  if (tokens !== undefined || (isTransposed && (has("a") || has("b"))))
    faults.base.push(`"${module}" has factors of several kinds, which cannot be merged here`);
  else if (first === undefined || second === undefined)
    faults.base.push(`"${module}.weight": one of lora_A and lora_B is missing`);
  else if (
    weight.shape.length !== 2 ||
    String(first.shape) !== String([first.shape[0], inner]) ||
    String(second.shape) !== String([outer, first.shape[0]])
  )
    faults.base.push(
      `"${module}.weight" is [${weight.shape}], lora_A is [${first.shape}] and lora_B [${second.shape}]`,
    );
  else if (first.shape[0] !== rank)
    faults.settings.push(`"${module}": lora_A has rank ${first.shape[0]}, r and rank_pattern give ${rank}`);
  else if (!isTargeted(adapter, named))
    faults.settings.push(
      `"${module}" has lora_A and lora_B, and the settings target no such module: peft would ignore them`,
    );
  else if ((adapter.use_dora === true) !== has("magnitude"))
    faults.settings.push(
      `"${module}": use_dora is ${adapter.use_dora}, lora_magnitude_vector is ${has("magnitude") ? "there" : "missing"}`,
    );
  else if (magnitude !== undefined && String(magnitude.shape) !== String([outer]))
    faults.base.push(`"${module}": lora_magnitude_vector is [${magnitude.shape}], expected [${outer}]`);
  else if ((adapter.lora_bias === true) !== has("addedBias"))
    faults.settings.push(
      `"${module}": lora_bias is ${adapter.lora_bias}, the bias of lora_B is ${addedBias ? "there" : "missing"}`,
    );
  else
    return merged(weight, {
      rank,
      up: async () => (isTransposed ? transposed(await readAll(first), rank) : readAll(second)),
      down: async () => (isTransposed ? transposed(await readAll(second), outer) : readAll(first)),
      scale: scaleOf(adapter, named),
      magnitude: magnitude ?? null,
      magnitudeOf: isTransposed ? "column" : "row",
    });
  return weight;
}

/** The bias of a module with the adapter; null if the adapter does not change it. */
function changedBias(
  adapter: AdapterConfig,
  module: string,
  { named, tensors: { bias, addedBias } }: Part,
  before: WeightSource | null,
  faults: Faults,
): WeightSource | null {
  if (bias === undefined && addedBias === undefined) return null;
  const start = bias ?? before;
  if (before === null || start === null) {
    faults.base.push(`"${module}" has a bias in the adapter, and none in the base model`);
    return null;
  }
  if (addedBias === undefined) return start;
  if (String(addedBias.shape) === String(start.shape)) return plus(start, addedBias, scaleOf(adapter, named));
  faults.base.push(`"${module}.bias" is [${start.shape}], that of lora_B is [${addedBias.shape}]`);
  return null;
}

/** Finds what the settings say and the file lacks. peft stops at these too. */
function expectComplete(
  adapter: AdapterConfig,
  parts: ReadonlyMap<string, Part>,
  {
    modules,
    ofEmbedding,
    ofHead,
    isTied,
  }: { modules: ReadonlySet<string>; ofEmbedding: string; ofHead: string; isTied: boolean },
  faults: Faults,
): void {
  for (const module of modules) {
    const tensors = parts.get(module)?.tensors ?? {};
    // The head is saved with the embedding then.
    const isWithEmbedding = isTied && module === ofHead && adapter.ensure_weight_tying === true;
    if (isSaved(adapter, module) && tensors.weight === undefined && !isWithEmbedding)
      faults.settings.push(`"${module}" is among modules_to_save, its weight is missing`);
    const rows = tokenRowsOf(adapter, module, module === ofEmbedding);
    if (rows.length > 0 && tensors.tokens === undefined)
      faults.settings.push(`"${module}" has trainable_token_indices, its trainable_tokens_delta is missing`);
  }
}

/** A matrix with some of its rows replaced. */
function withRows(
  module: string,
  weight: WeightSource,
  replaced: WeightSource,
  places: readonly number[],
  faults: Faults,
): WeightSource {
  const [rows, columns] = weight.shape;
  const beyond = places.find((place) => place >= rows);
  if (String(replaced.shape) !== String([places.length, columns]))
    faults.settings.push(
      `"${module}": trainable_tokens_delta is [${replaced.shape}], trainable_token_indices has ${places.length} rows`,
    );
  else if (beyond !== undefined)
    faults.base.push(`"${module}": token ${beyond} was trained, the base model has ${rows} tokens`);
  return {
    shape: weight.shape,
    dtype: "f32",
    async *pieces(elements) {
      const values = await readAll(replaced);
      for await (const { start, data } of weight.pieces(elements)) {
        const changed = Float32Array.from(data);
        for (const [i, place] of places.entries())
          for (let column = 0; column < columns; column++) {
            const at = place * columns + column - start;
            if (at >= 0 && at < changed.length) changed[at] = values[i * columns + column];
          }
        yield { start, data: changed };
      }
    },
  };
}

/** a + scale · b, element by element. */
function plus(a: WeightSource, b: WeightSource, scale: number): WeightSource {
  return {
    shape: a.shape,
    dtype: "f32",
    async *pieces(elements) {
      const added = await readAll(b);
      for await (const { start, data } of a.pieces(elements))
        yield { start, data: data.map((value, i) => value + scale * added[start + i]) };
    },
  };
}

/** A matrix of so many rows, transposed. */
function transposed(matrix: Float32Array, rows: number): Float32Array {
  const columns = matrix.length / rows;
  return Float32Array.from(matrix, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]);
}

/** Computes W + scale · B·A, [out, in], piece by piece; with DoRA, its rows or columns scaled to their magnitudes. */
function merged(weight: WeightSource, factors: Factors): WeightSource {
  const columns = weight.shape[1];
  const { rank, scale, magnitude, magnitudeOf } = factors;
  async function* sums(elements?: number): AsyncGenerator<{ start: number; data: Float64Array }> {
    const [down, up] = [await factors.down(), await factors.up()];
    for await (const { start, data } of weight.pieces(elements)) {
      const sum = new Float64Array(data.length);
      for (let i = 0; i < data.length; i++) {
        const row = Math.floor((start + i) / columns);
        const column = (start + i) % columns;
        let product = 0;
        for (let k = 0; k < rank; k++) product += up[row * rank + k] * down[k * columns + column];
        sum[i] = data[i] + scale * product;
      }
      yield { start, data: sum };
    }
  }
  const lineOf = (element: number): number =>
    magnitudeOf === "row" ? Math.floor(element / columns) : element % columns;
  return {
    shape: weight.shape,
    dtype: "f32",
    async *pieces(elements) {
      if (magnitude === null) {
        for await (const { start, data } of sums(elements)) yield { start, data: new Float32Array(data) };
        return;
      }
      const wanted = await readAll(magnitude);
      const squares = new Float64Array(wanted.length);
      for await (const { start, data } of sums(elements))
        for (let i = 0; i < data.length; i++) squares[lineOf(start + i)] += data[i] * data[i];
      const scales = Float64Array.from(wanted, (length, line) => length / Math.sqrt(squares[line]));
      for await (const { start, data } of sums(elements)) {
        for (let i = 0; i < data.length; i++) data[i] *= scales[lineOf(start + i)];
        yield { start, data: new Float32Array(data) };
      }
    },
  };
}
