// A random model of any Qwen2 configuration; a seed gives the same model on every machine. Matrices are normal with standard
// deviation fan_in^−½, embeddings normal with a standard deviation of their own (default 0.02), biases 0, norm gains 1.
//
//   node model/initialise.ts --config qwen2.5-0.5b --out DIR [--seed N] [--dtype bf16] [--files-from DIR]
//
// The command makes a model folder tensor by tensor: memory holds one at a time.
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import {
  choice,
  defineSettings,
  expectDiskSpace,
  integer,
  number,
  runCommand,
  SettingsError,
  text,
} from "../engine/host/index.ts";
import { directionNormals, keyOf, type ParameterArena, sizeOf, wordsOf } from "../engine/index.ts";
import { openConfig, readConfigFile } from "./checkpoint-files.ts";
import { type Json, parameterShapes, parseConfig, type Qwen2Config } from "./config.ts";
import { publishedConfig, publishedShapes } from "./published-shapes.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

/** Normals drawn at a time, so that a tensor is never held in float64. */
const pieceElements = 2 ** 20;
const usualEmbeddingDeviation = 0.02;

/** Fills an arena. Each tensor has its own stream: label `initialise|seed`, counters as of directions. */
export function initialise(
  arena: ParameterArena,
  config: Qwen2Config,
  seed: number,
  embeddingDeviation = usualEmbeddingDeviation,
): void {
  for (const [name, shape] of parameterShapes(config))
    arena.load(name, randomTensor(name, shape, seed, embeddingDeviation));
  arena.refreshCopies();
}

/** One tensor of the random model, [out, in] for a matrix. */
export function randomTensor(
  name: string,
  shape: readonly number[],
  seed: number,
  embeddingDeviation = usualEmbeddingDeviation,
): Float32Array {
  const values = new Float32Array(sizeOf(shape));
  if (shape.length === 1) return name.endsWith("norm.weight") ? values.fill(1) : values;
  const deviation = name.endsWith("embed_tokens.weight") ? embeddingDeviation : shape[1] ** -0.5;
  const key = keyOf(`initialise|${seed}`);
  const nameWords = wordsOf(name);
  for (let first = 0; first < values.length; first += pieceElements) {
    const count = Math.min(pieceElements, values.length - first);
    const normals = directionNormals(key, nameWords, count, first);
    for (let i = 0; i < count; i++) values[first + i] = normals[i] * deviation;
  }
  return values;
}

const bytesOf = { f32: 4, bf16: 2, f16: 2 } as const;

const settings = defineSettings(
  {
    config: text({
      default: "",
      meaning: `the model's shape: a config.json, a folder that has one, or ${publishedShapes.join(", ")}`,
    }),
    out: text({ default: "", meaning: "the model folder to make" }),
    seed: integer({ default: 1, min: 0, meaning: "names the numbers: the same seed gives the same model" }),
    dtype: choice({ default: "f32", options: ["f32", "bf16", "f16"], meaning: "how weights are stored" }),
    "embedding-deviation": number({
      default: usualEmbeddingDeviation,
      above: 0,
      meaning: "standard deviation of the embeddings",
    }),
    "files-from": text({
      default: "",
      meaning: "a model folder whose tokenizer and generation_config.json are copied; without one there is none",
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
  parseConfig(configJson, named);
  return configJson;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await runCommand({
    name: "node model/initialise.ts",
    summary: "Makes a random model of any Qwen2 configuration, as a folder in Hugging Face's layout.",
    settings,
    examples: [
      ["node model/initialise.ts --config qwen2.5-0.5b --out random-0.5b", "the shape of Qwen2.5-0.5B"],
      [
        "node model/initialise.ts --config config.json --out DIR --files-from MODEL",
        "a shape of yours, with a tokenizer",
      ],
    ],
    main: async ({ values, progress, signal }) => {
      const { out, seed, dtype } = values;
      const configJson = await readConfig(values.config);
      if (existsSync(out))
        throw new SettingsError(`out: ${out} is there already. Choose another name, or delete it first.`);
      const filesFrom = values["files-from"];
      if (filesFrom !== "") await openConfig(filesFrom, { weights: false }); // says so when it is no model folder
      const shapes = [...parameterShapes(parseConfig(configJson, values.config))];
      const elements = shapes.reduce((sum, [, shape]) => sum + sizeOf(shape), 0);
      expectDiskSpace(out, elements * bytesOf[dtype], "the weights");
      const phase = progress.phase("initialise", elements, "weights");
      const tensors = shapes.map(([name, shape]) => ({
        name,
        data: () => {
          signal.throwIfAborted();
          const data = randomTensor(name, shape, seed, values["embedding-deviation"]);
          phase.advance(data.length);
          return data;
        },
      }));
      await writeCheckpoint(out, { configJson, tensors, dtype, ...(filesFrom === "" ? {} : { filesFrom }) });
      phase.done();
      progress.line(`${out}: ${elements} weights in ${shapes.length} tensors`);
    },
  });
