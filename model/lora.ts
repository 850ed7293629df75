// Merges a LoRA adapter of peft into its base model: W + scale · B·A for each adapted linear layer, with scale =
// lora_alpha / r, or lora_alpha / √r with use_rslora. W, A and B are widened to f32; the sum is computed in float64 and
// rounded once. So the merged weights equal base plus adapter in any dtype of the base (peft rounds B·A and the sum to
// the base's dtype).
//
// adapter_config.json has some forty settings, and a few change what the adapter computes. Settings that are not known
// to be harmless are refused by name. https://huggingface.co/docs/peft/package_reference/lora
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CheckpointError } from "../engine/host/index.ts";
import { adapterConfigFile, Checkpoint, readModelJson } from "./checkpoint-files.ts";
import { isLinearWeight, type Json } from "./config.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { readAll, storedTensor, type WeightSource } from "./weight-source.ts";

const adapterWeightsFile = "adapter_model.safetensors";

/** Settings of peft that are harmless: they describe the training, or repeat facts that the tensors show. */
const harmless = new Set([
  ...[
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
  ],
  ...["layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "modules_to_save", "peft_version"],
  ...["qalora_group_size", "revision", "runtime_config", "target_modules", "task_type", "ensure_weight_tying"],
]);
/** Initialisations that also change the base model, so that the adapter does not fit the base that it names. */
const changesBase = /^(pissa|olora|corda|loftq)/;

const schema = z.object({
  peft_type: z.literal("LORA"),
  r: z.number().positive(),
  lora_alpha: z.number(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: z.record(z.string(), z.number()).nullish(),
  alpha_pattern: z.record(z.string(), z.number()).nullish(),
  bias: z.literal("none").nullish(),
  base_model_name_or_path: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
});

/** The content of adapter_config.json. */
export interface AdapterConfig extends z.infer<typeof schema> {
  readonly folder: string;
}

/** Whether a folder holds an adapter and no model. */
export function isAdapter(folder: string): boolean {
  return existsSync(join(folder, adapterConfigFile));
}

/** @throws CheckpointError when the folder is not a LoRA adapter, or its kind cannot be merged here */
export function readAdapterConfig(folder: string): AdapterConfig {
  const path = join(folder, adapterConfigFile);
  const json = readModelJson(path);
  const parsed = schema.safeParse(json);
  if (!parsed.success)
    throw new CheckpointError(`${path}: expected a LoRA adapter of peft:\n${z.prettifyError(parsed.error)}`);
  const known = new Set([...Object.keys(schema.shape), ...harmless]);
  const faults = Object.entries(json as Json)
    .filter(([key, value]) => !known.has(key) && !isEmpty(value))
    .map(([key, value]) => `${key}: ${JSON.stringify(value)} cannot be merged here`);
  const { init_lora_weights: begin } = parsed.data;
  if (typeof begin === "string" && changesBase.test(begin))
    faults.push(`init_lora_weights: ${JSON.stringify(begin)} changes the base model too`);
  if (parsed.data.lora_alpha === 0)
    throw new CheckpointError(
      `${path}: lora_alpha is 0, with which the adapter would change no weight. verl's merger writes 0: set it to the value of the ` +
        "training.",
    );
  if (faults.length > 0)
    throw new CheckpointError(`${path}: ${faults.join("; ")}. Merge it with peft: model.merge_and_unload().`);
  return { ...parsed.data, folder };
}

function isEmpty(value: unknown): boolean {
  return value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0);
}

/**
 * The base model with the adapter merged into it. Closing the result also closes the base.
 * @param base  an open checkpoint; the caller closes it only if this function throws
 * @throws CheckpointError naming every tensor of the adapter that does not fit
 */
export async function mergeAdapter(base: Checkpoint, adapter: AdapterConfig): Promise<Checkpoint> {
  const path = join(adapter.folder, adapterWeightsFile);
  if (!existsSync(path))
    throw new CheckpointError(
      `${path}: not found. Only safetensors are read: save the adapter with safe_serialization=True.`,
    );
  const file = await openSafetensors(path);
  try {
    const changed = await mergedWeights(base, adapter, file);
    const sources = new Map([...base.shapes.keys()].map((name) => [name, changed.get(name) ?? base.source(name)]));
    const note = `${adapter.folder}: a LoRA adapter, merged into ${base.folder}: ${changed.size} of ${sources.size} tensors changed.`;
    return new MergedCheckpoint(base, file, sources, note);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class MergedCheckpoint extends Checkpoint {
  readonly #base: Checkpoint;

  constructor(base: Checkpoint, file: SafetensorsFile, sources: ReadonlyMap<string, WeightSource>, note: string) {
    super(base.folder, { ...base, notes: [...base.notes, note] }, [file], sources);
    this.#base = base;
  }

  override async close(): Promise<void> {
    await super.close();
    await this.#base.close();
  }
}

interface Factors {
  a?: WeightSource;
  b?: WeightSource;
}

async function mergedWeights(
  base: Checkpoint,
  adapter: AdapterConfig,
  file: SafetensorsFile,
): Promise<Map<string, WeightSource>> {
  const changed = new Map<string, WeightSource>();
  const factors = new Map<string, Factors>();
  const faults: string[] = [];
  for (const stored of file.tensors.keys()) {
    const source = storedTensor(file, stored);
    const [, module, kind] =
      /^base_model\.model\.(.+?)\.(lora_A\.weight|lora_B\.weight|weight|bias)$/.exec(stored) ?? [];
    const name = kind === "bias" ? `${module}.bias` : `${module}.weight`;
    const shape = base.shapes.get(name);
    const isFactor = kind?.startsWith("lora_") === true;
    if (source === null) faults.push(`"${stored}" is not stored as floats`);
    else if (shape === undefined || (isFactor && !isLinearWeight(name)))
      faults.push(`"${stored}" belongs to no linear layer of the base model`);
    else if (isFactor) factors.set(name, { ...factors.get(name), [kind === "lora_A.weight" ? "a" : "b"]: source });
    // A whole tensor: its module was trained without LoRA (modules_to_save).
    else if (String(source.shape) === String(shape)) changed.set(name, source);
    else faults.push(`"${stored}" is [${source.shape}], the base model's is [${shape}]`);
  }
  for (const [name, { a, b }] of factors) {
    const weight = changed.get(name) ?? base.source(name);
    const [rows, columns] = weight.shape;
    const rank = a?.shape[0] ?? 0;
    if (a === undefined || b === undefined) faults.push(`"${name}": one of lora_A and lora_B is missing`);
    else if (String(a.shape) !== String([rank, columns]) || String(b.shape) !== String([rows, rank]))
      faults.push(`"${name}" is [${weight.shape}], lora_A is [${a.shape}] and lora_B [${b.shape}]`);
    else changed.set(name, merged(weight, a, b, scaleOf(adapter, name.replace(/\.weight$/, ""), rank)));
  }
  if (changed.size === 0 && faults.length === 0) faults.push("it has no tensors");
  if (faults.length > 0)
    throw new CheckpointError(
      `${file.path}: does not fit ${base.folder}. Is this its base model?\n${faults.map((fault) => `  ${fault}`).join("\n")}`,
    );
  return changed;
}

/** lora_alpha over the rank, or its root, of one module. */
function scaleOf({ lora_alpha, alpha_pattern, use_rslora }: AdapterConfig, module: string, rank: number): number {
  // As in peft's get_pattern_key: a pattern is a regular expression that matches the end of a module's name.
  const fitting = Object.entries(alpha_pattern ?? {}).find(([key]) =>
    new RegExp(`^(?:.*\\.)?(?:${key})$`).test(module),
  );
  return (fitting?.[1] ?? lora_alpha) / (use_rslora === true ? Math.sqrt(rank) : rank);
}

/** Computes W + scale · B·A, [out, in], piece by piece. */
function merged(weight: WeightSource, a: WeightSource, b: WeightSource, scale: number): WeightSource {
  const columns = weight.shape[1];
  const rank = a.shape[0];
  return {
    shape: weight.shape,
    dtype: "f32",
    async *pieces(elements) {
      const [down, up] = [await readAll(a), await readAll(b)];
      for await (const { start, data } of weight.pieces(elements)) {
        const sum = new Float32Array(data.length);
        for (let i = 0; i < data.length; i++) {
          const row = Math.floor((start + i) / columns);
          const column = (start + i) % columns;
          let product = 0;
          for (let k = 0; k < rank; k++) product += up[row * rank + k] * down[k * columns + column];
          sum[i] = data[i] + scale * product;
        }
        yield { start, data: sum };
      }
    },
  };
}
