// Makes a random model as a folder in Hugging Face's layout, with any configuration of a registered family
// (random-weights.ts says how the weights are drawn):
//
//   node model/initialise.ts --config qwen2.5-0.5b --out DIR [--seed N] [--dtype bf16] [--files-from DIR]
//
// The folder is written tensor by tensor: memory holds one tensor at a time.
import { existsSync } from "node:fs";
import { basename } from "node:path";
import {
  choice,
  defineSettings,
  expectDiskSpace,
  expectFolderPlace,
  formatBytes,
  freeDisk,
  integer,
  number,
  runCommand,
  SettingsError,
  text,
} from "../engine/host/index.ts";
import { sizeOf } from "../engine/index.ts";
import { openConfig, readConfigFile } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";
import { openLanguageModel } from "./families.ts";
import { publishedConfig, publishedShapes } from "./published-shapes.ts";
import { randomTensor, usualEmbeddingDeviation } from "./random-weights.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

const bytesOf = { f32: 4, bf16: 2, f16: 2 } as const;

const settings = defineSettings(
  {
    config: text({
      default: "",
      meaning: `the model's shape: a config.json, a folder that has one, or ${publishedShapes.join(", ")}`,
    }),
    out: text({ default: "", meaning: "the model folder to make" }),
    seed: integer({ default: 1, min: 0, meaning: "random seed: the same seed gives the same model" }),
    dtype: choice({ default: "f32", options: ["f32", "bf16", "f16"], meaning: "how weights are stored" }),
    "embedding-deviation": number({
      default: usualEmbeddingDeviation,
      above: 0,
      meaning: "standard deviation of the embeddings",
    }),
    "files-from": text({
      default: "",
      meaning: "a model folder whose tokenizer and generation_config.json are copied; empty for neither",
    }),
  },
  ({ config, out }) => [
    ...(config === "" ? [`config is missing (--config FILE, or one of ${publishedShapes.join(", ")})`] : []),
    ...(out === "" ? ["out is missing (--out DIR): the model folder to make"] : []),
  ],
);

/** config.json of a published shape, a file, or a model folder. */
async function readConfig(named: string): Promise<Json> {
  const published = publishedConfig(named);
  if (published !== null) return published;
  if (!existsSync(named))
    throw new SettingsError(
      `config: expected a config.json, a folder that has one, or ${publishedShapes.join(", ")}, got ${named}: no such file.`,
    );
  if (!basename(named).endsWith(".json")) return (await openConfig(named, { weights: false })).configJson;
  const { configJson } = readConfigFile(named);
  openLanguageModel(configJson, named);
  return configJson;
}

await runCommand({
  name: "node model/initialise.ts",
  summary: "Makes a random model of a given configuration, as a folder in Hugging Face's layout.",
  settings,
  examples: [
    ["node model/initialise.ts --config qwen2.5-0.5b --out random-0.5b", "the shape of Qwen2.5-0.5B"],
    [
      "node model/initialise.ts --config config.json --out DIR --files-from MODEL",
      "a shape of yours, with a tokenizer",
    ],
  ],
  dryRun: "Print the size of the model that would be made, and the disk that it needs, and stop.",
  main: async ({ values, progress, signal, isDryRun }) => {
    const { out, seed, dtype } = values;
    const configJson = await readConfig(values.config);
    if (existsSync(out))
      throw new SettingsError(`out: ${out} exists already. Choose another name, or delete it first.`);
    expectFolderPlace(out);
    const filesFrom = values["files-from"];
    if (filesFrom !== "") await openConfig(filesFrom, { weights: false }); // throws if it is not a model folder
    const parameters = [...openLanguageModel(configJson, values.config).parameters()];
    const elements = parameters.reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0);
    if (isDryRun) {
      const largest = parameters.reduce((most, [, { shape }]) => Math.max(most, sizeOf(shape)), 0);
      process.stdout.write(
        `Weights: ${elements.toLocaleString("en")} in ${parameters.length} tensors, as ${dtype}\n` +
          `Memory: about ${formatBytes(largest * (4 + bytesOf[dtype]))}, one tensor at a time; no adapter is used\n` +
          `Disk: ${formatBytes(elements * bytesOf[dtype])} in ${out}; ${freeDisk(out, elements * bytesOf[dtype])}\n`,
      );
      return;
    }
    expectDiskSpace(out, elements * bytesOf[dtype], "the weights");
    const phase = progress.phase("initialise", elements, "weights");
    const tensors = parameters.map(([name, description]) => ({
      name,
      data: () => {
        signal.throwIfAborted();
        const data = randomTensor(name, description, seed, values["embedding-deviation"]);
        phase.advance(data.length);
        return data;
      },
    }));
    await writeCheckpoint(out, { configJson, tensors, dtype, ...(filesFrom === "" ? {} : { filesFrom }) });
    phase.done();
    progress.line(`${out}: ${elements} weights in ${parameters.length} tensors`);
  },
});
