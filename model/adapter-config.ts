// Reads adapter_config.json of a LoRA adapter of peft. Of its some fifty settings a few change what the adapter computes.
// Those that are not known to be harmless are refused by name.
// https://huggingface.co/docs/peft/package_reference/lora
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CheckpointError } from "../engine/host/index.ts";
import { adapterConfigFile, readModelJson } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";

/** Settings that are harmless for a Qwen2 or a Llama: they describe the training, or repeat facts that the tensors show. */
const harmless = new Set([
  ...[
    "auto_mapping",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "runtime_config",
  ],
  ...["qalora_group_size", "task_type"],
  // Without the value of init_lora_weights that belongs to them, peft ignores these.
  ...["corda_config", "loftq_config", "lora_ga_config"],
  // peft sets it to false for torch.nn.Linear, and ignores it for an embedding.
  "fan_in_fan_out",
  // It changes the backward pass alone.
  "velora_config",
]);
/** Settings with which no weights equal base plus adapter. */
const unmergeable: Readonly<Record<string, string>> = {
  alora_invocation_tokens: "the adapter works from these tokens on, so no weights equal it",
  arrow_config: "the factors are chosen for each token, so no weights equal it",
};
/** Settings that also count if their value is {}. */
const countsIfEmpty = new Set(["arrow_config", "kasa_config", "monteclora_config", "use_bdlora"]);
/** Initialisations that leave the base model as it is. */
const keepsBase = new Set(["gaussian", "eva", "orthogonal", "mica"]);
/** Initialisations that also change the base model, so that the adapter does not fit the base that it names. */
const changesBase = /^(pissa|olora|corda|loftq|lora_ga)/i;

const names = z.array(z.string());
const namesOrPattern = z.union([names, z.string()]);
const indices = z.array(z.number().int().nonnegative());
const schema = z.object({
  peft_type: z.literal("LORA"),
  r: z.number().positive(),
  lora_alpha: z.number(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: z.record(z.string(), z.number().positive()).nullish(),
  alpha_pattern: z.record(z.string(), z.number()).nullish(),
  bias: z.enum(["none", "all", "lora_only"]).nullish(),
  base_model_name_or_path: z.string().nullish(),
  revision: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  use_dora: z.boolean().nullish(),
  lora_bias: z.boolean().nullish(),
  ensure_weight_tying: z.boolean().nullish(),
  modules_to_save: names.nullish(),
  target_modules: namesOrPattern.nullish(),
  exclude_modules: namesOrPattern.nullish(),
  target_parameters: names.nullish(),
  layers_to_transform: z.union([z.number().transform((layer) => [layer]), z.array(z.number())]).nullish(),
  layers_pattern: z.union([z.string().transform((name) => (name === "" ? [] : [name])), names]).nullish(),
  trainable_token_indices: z.union([indices, z.record(z.string(), indices)]).nullish(),
});

/** The content of adapter_config.json. */
export interface AdapterConfig extends z.infer<typeof schema> {
  readonly folder: string;
  /** Whether the file may hold `lora_velora_embed`, which only the backward pass reads. */
  readonly usesVelora: boolean;
}

/** Whether a folder holds an adapter and no model. */
export function isAdapter(folder: string): boolean {
  return existsSync(join(folder, adapterConfigFile));
}

/** @throws CheckpointError when the folder is not a LoRA adapter, or its kind cannot be merged here */
export function readAdapterConfig(folder: string): AdapterConfig {
  const path = join(folder, adapterConfigFile);
  const inside = isAdapter(folder) ? [] : adaptersInside(folder);
  if (inside.length > 0)
    throw new CheckpointError(
      `${folder}: expected a LoRA adapter, there is no ${adapterConfigFile}, but there are adapters inside. Name one of them: ` +
        inside.join(", "),
    );
  const json = readModelJson(path);
  const parsed = schema.safeParse(json);
  if (!parsed.success)
    throw new CheckpointError(`${path}: expected a LoRA adapter of peft:\n${z.prettifyError(parsed.error)}`);
  const config = { ...parsed.data, folder, usesVelora: (json as Json)["velora_config"] != null };
  if (config.lora_alpha === 0)
    throw new CheckpointError(
      `${path}: lora_alpha is 0, with which the adapter would change no weight. verl's merger writes 0: set it to the value of the ` +
        "training.",
    );
  const known = new Set([...Object.keys(schema.shape), ...harmless]);
  const set = Object.entries(json as Json).filter(([key, value]) => !known.has(key) && !isUnset(key, value));
  const faults = set.map(
    ([key, value]) =>
      `${key}: ${JSON.stringify(value)} cannot be merged here${key in unmergeable ? `: ${unmergeable[key]}` : ""}`,
  );
  const begin = config.init_lora_weights;
  if (typeof begin === "string" && !keepsBase.has(begin.toLowerCase()))
    faults.push(
      `init_lora_weights: ${JSON.stringify(begin)} ${changesBase.test(begin) ? "changes" : "is not known here, and may change,"} the base model too`,
    );
  if (faults.length > 0)
    throw new CheckpointError(
      `${path}: ${faults.join("; ")}.${set.some(([key]) => key in unmergeable) ? "" : mergeWithPeft}`,
    );
  for (const pattern of patternsOf(config)) compiled(pattern, path);
  return config;
}

const mergeWithPeft = " Merge it with peft: model.merge_and_unload().";

function isUnset(key: string, value: unknown): boolean {
  if (value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0 && !countsIfEmpty.has(key);
}

/** Adapters of other names than "default" lie in a folder of their name. */
function adaptersInside(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => join(folder, name)).filter(isAdapter);
}

function patternsOf(config: AdapterConfig): string[] {
  const { target_modules: target, exclude_modules: exclude } = config;
  return [
    ...[...Object.keys(config.rank_pattern ?? {}), ...Object.keys(config.alpha_pattern ?? {})].map(ofEnd),
    ...[target, exclude].filter((pattern) => typeof pattern === "string"),
    ...(config.layers_pattern ?? []).map(ofLayer),
  ];
}

/** As in peft's get_pattern_key: a pattern is a regular expression that matches the end of a module's name. */
const ofEnd = (pattern: string): string => `(?:.*\\.)?(?:${pattern})`;
const ofLayer = (pattern: string): string => `(?:.*?\\.)?(?:${pattern})\\.(\\d+)\\..*`;

/** A regular expression of Python that matches whole names. @throws CheckpointError when it has no equal here */
function compiled(pattern: string, where: string): RegExp {
  const [, flags = "", rest = ""] = /^(?:\(\?([aimsu]+)\))?(.*)$/s.exec(pattern) ?? [];
  const source = rest
    .replaceAll("(?P<", "(?<")
    .replaceAll(/\(\?P=(\w+)\)/g, "\\k<$1>")
    .replaceAll(/\\[AZ]/g, (end) => (end === "\\A" ? "^" : "$"))
    .replaceAll("{,", "{0,");
  try {
    return new RegExp(`^(?:${source})$`, flags.replaceAll(/[au]/g, ""));
  } catch {
    throw new CheckpointError(
      `${where}: ${JSON.stringify(pattern)}: this regular expression of Python is not understood here. Write it without what only ` +
        `Python has, or name the modules.${mergeWithPeft}`,
    );
  }
}

/** The value of the first pattern that matches a module, as in peft. */
function byPattern(values: Readonly<Record<string, number>> | null | undefined, module: string): number | undefined {
  return Object.entries(values ?? {}).find(([pattern]) => compiled(ofEnd(pattern), "").test(module))?.[1];
}

/** The rank of a module's factors. */
export function rankOf({ r, rank_pattern }: AdapterConfig, module: string): number {
  return byPattern(rank_pattern, module) ?? r;
}

/** lora_alpha over the rank, or its root, of one module. */
export function scaleOf(config: AdapterConfig, module: string): number {
  const rank = rankOf(config, module);
  const alpha = byPattern(config.alpha_pattern, module) ?? config.lora_alpha;
  return alpha / (config.use_rslora === true ? Math.sqrt(rank) : rank);
}

const isNamed = (name: string, ends: readonly string[]): boolean =>
  ends.some((end) => name === end || name.endsWith(`.${end}`));

/** Whether peft gives a module factors under these settings. */
export function isTargeted(config: AdapterConfig, module: string): boolean {
  const { target_modules: target, exclude_modules: exclude, target_parameters: parameters } = config;
  if (isNamed(`${module}.weight`, parameters ?? [])) return true;
  // peft targets the embedding in place of the head, and gives the head the same factors.
  if (config.ensure_weight_tying === true && module === "lm_head") return true;
  if (typeof exclude === "string" ? compiled(exclude, "").test(module) : isNamed(module, exclude ?? [])) return false;
  if (isSaved(config, module)) return false;
  // peft chooses by the model's type then.
  if (target == null) return (parameters ?? []).length === 0;
  if (target === "all-linear") return true;
  if (typeof target === "string") return compiled(target, "").test(module);
  if (target.includes(module)) return true;
  const layers = config.layers_to_transform ?? [];
  if (!isNamed(module, target)) return false;
  if (layers.length === 0) return true;
  const patterns = config.layers_pattern ?? [];
  const found = (patterns.length === 0 ? [ofLayer("[^.]*")] : patterns.map(ofLayer))
    .map((pattern) => compiled(pattern, "").exec(module)?.at(-1))
    .find((layer) => layer !== undefined);
  return found !== undefined && layers.includes(Number(found));
}

/** Whether a module was trained itself, as a whole. As in peft any end of a name is enough: "norm" is input_layernorm too. */
export function isSaved({ modules_to_save: saved }: AdapterConfig, module: string): boolean {
  return (saved ?? []).some((end) => module.endsWith(end));
}

/** The rows of a module that were trained one by one. */
export function tokenRowsOf(
  { trainable_token_indices: rows }: AdapterConfig,
  module: string,
  isEmbedding: boolean,
): readonly number[] {
  if (rows == null) return [];
  if (Array.isArray(rows)) return isEmbedding ? rows : [];
  return Object.entries(rows).find(([end]) => module.endsWith(end))?.[1] ?? [];
}
