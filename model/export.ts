// Rewrites a model as a folder in Hugging Face's layout: in another dtype, in shards, or with a LoRA adapter merged
// into it. It needs no GPU.
//
//   node model/export.ts --model DIR --out DIR [--dtype bf16] [--shard-size 500MB] [--base DIR]
//
// With bf16 it halves the size of a run's checkpoints, which are f32. Models that other programs wrote get uniform
// names and files. Rounding is to the nearest, ties to even. A number beyond f16's range is refused rather than made
// infinite. Memory holds one tensor at a time.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  CheckpointError,
  choice,
  defineSettings,
  expectDiskSpace,
  expectFolderPlace,
  formatBytes,
  freeDisk,
  runCommand,
  SettingsError,
  text,
} from "../engine/host/index.ts";
import { sizeOf, storedBytes } from "../engine/index.ts";
import { type AdapterConfig, isAdapter, readAdapterConfig } from "./adapter-config.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint-files.ts";
import { modelCommandSettings, modelProblems } from "./commands/command.ts";
import { type LocateOptions, locateModel, withoutDownload } from "./hub.ts";
import { mergeAdapter } from "./lora.ts";
import { type WrittenDtype, writeCheckpoint, writtenDtypes } from "./write-checkpoint.ts";

const units = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/** "500MB" in bytes; NaN if the text is not a size. Units as in transformers: MB is 10⁶ bytes, MiB 2²⁰. */
export function bytesOfSize(size: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?) ?([KMG]i?B|B)$/i.exec(size) ?? [];
  const found = Object.entries(units).find(([name]) => name.toLowerCase() === unit?.toLowerCase());
  return found === undefined ? Number.NaN : Math.floor(Number(digits) * found[1]);
}

const settings = defineSettings(
  {
    model: modelCommandSettings.model,
    out: text({ default: "", meaning: "the model folder to write" }),
    base: text({
      default: "",
      meaning: "if --model is a LoRA adapter: its base model; default: the one that adapter_config.json names",
    }),
    dtype: choice({
      default: "stored",
      options: ["stored", ...writtenDtypes],
      meaning: "dtype of the written weights; stored: unchanged, or f32 if the model stores weights in several dtypes",
    }),
    "shard-size": text({ default: "5GB", meaning: "largest weight file: a number and B, KB, MB, GB, KiB, MiB or GiB" }),
  },
  ({ model, out, "shard-size": size }) => [
    ...modelProblems(model),
    ...(out === "" ? ["out is missing (--out DIR): the model folder to write"] : []),
    ...(bytesOfSize(size) >= 1
      ? []
      : [`shard-size: expected a size such as 500MB or 2GiB, at least one byte, got ${JSON.stringify(size)}`]),
  ],
);

/**
 * The dtype without loss: the one in which all weights are stored, or f32 if there are several (f64 is rounded to f32).
 */
function storedDtype(checkpoint: Checkpoint): WrittenDtype {
  const found = new Set([...checkpoint.shapes.keys()].map((name) => checkpoint.dtype(name)));
  return writtenDtypes.find((dtype) => found.size === 1 && found.has(dtype)) ?? "f32";
}

interface Opened {
  checkpoint: Checkpoint;
  /** Folders to copy tokenizer files and generation_config.json from; each comes from the first folder that has it. */
  filesFrom: string[];
}

/** Opens a model, or an adapter merged into its base model. */
async function openWhole(model: string, base: string, options: LocateOptions): Promise<Opened> {
  if (!isAdapter(model)) {
    if (base !== "") throw new SettingsError(`base: expected only with a LoRA adapter; ${model} is not one.`);
    const { folder } = await locateModel(model, options);
    return { checkpoint: await openCheckpoint(folder), filesFrom: [folder] };
  }
  const adapter = readAdapterConfig(model);
  const named = base === "" ? baseOf(adapter) : base;
  if (named === "")
    throw new SettingsError(
      `base is missing (--base DIR): ${model} is a LoRA adapter that does not name its base model.`,
    );
  const { folder } = await locateModel(named, options).catch((error: unknown) => {
    throw error instanceof CheckpointError
      ? new CheckpointError(`${model}: a LoRA adapter whose base model is not available (--base DIR). ${error.message}`)
      : error;
  });
  const checkpoint = await openCheckpoint(folder);
  try {
    return { checkpoint: await mergeAdapter(checkpoint, adapter), filesFrom: [model, folder] };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** The base model that an adapter names: a folder, or a model of the hub with its revision. */
function baseOf({ base_model_name_or_path: name, revision }: AdapterConfig): string {
  if (name == null || revision == null || revision === "" || name.includes("@") || existsSync(name)) return name ?? "";
  return `${name}@${revision}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await runCommand({
    name: "node model/export.ts",
    summary:
      "Rewrites a model as a Hugging Face folder: in another dtype, in shards, or with a LoRA adapter merged into it.",
    settings,
    examples: [
      ["node model/export.ts --model runs/tiny/checkpoints/step-000020 --dtype bf16 --out DIR", "half the size"],
      ["node model/export.ts --model ORG/NAME --shard-size 500MB --out DIR", "files of at most 500 MB, with an index"],
      ["node model/export.ts --model ADAPTER --dtype bf16 --out DIR", "a LoRA adapter, merged into its base model"],
    ],
    dryRun:
      "Print what would be written, and the disk that it needs, and stop. A model on the hub must be in the cache.",
    main: async ({ values, progress, signal, isDryRun }) => {
      const { out } = values;
      if (existsSync(out))
        throw new SettingsError(`out: ${out} exists already. Choose another name, or delete it first.`);
      expectFolderPlace(out);
      const { checkpoint, filesFrom } = await openWhole(values.model, values.base, {
        ...{ progress, signal },
        ...(isDryRun ? withoutDownload() : {}),
      });
      try {
        for (const note of checkpoint.notes) progress.line(note);
        const dtype = values.dtype === "stored" ? storedDtype(checkpoint) : values.dtype;
        const elements = [...checkpoint.shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
        const bytes = elements * storedBytes[dtype];
        if (isDryRun) {
          const shards = Math.max(1, Math.ceil(bytes / bytesOfSize(values["shard-size"])));
          const largest = [...checkpoint.shapes.values()].reduce((most, shape) => Math.max(most, sizeOf(shape)), 0);
          process.stdout.write(
            `Weights: ${elements.toLocaleString("en")} in ${checkpoint.shapes.size} tensors, as ${dtype}, in about ${shards} file${shards > 1 ? "s" : ""}\n` +
              `Operations: each weight is read, converted and written once; the time is that of the disk\n` +
              `Memory: about ${formatBytes(largest * (4 + storedBytes[dtype]))}, one tensor at a time; no adapter is used\n` +
              `Disk: ${formatBytes(bytes)} in ${out}, and the tokenizer's files; ${freeDisk(out, bytes)}\n`,
          );
          return;
        }
        expectDiskSpace(out, bytes, "the weights");
        const phase = progress.phase("export", elements, "weights");
        const tensors = [...checkpoint.shapes.keys()].map((name) => ({
          name,
          data: async () => {
            signal.throwIfAborted();
            const { data } = await checkpoint.tensor(name);
            phase.advance(data.length);
            return data;
          },
        }));
        const { configJson } = checkpoint;
        const shardBytes = bytesOfSize(values["shard-size"]);
        await writeCheckpoint(out, { configJson, tensors, dtype, shardBytes, filesFrom });
        phase.done();
        progress.line(`${out}: ${elements} weights in ${tensors.length} tensors, ${dtype}, ${formatBytes(bytes)}`);
      } finally {
        await checkpoint.close();
      }
    },
  });
