// The sampling settings of the generate command: flags, and with --generation-config the model's generation_config.json
// for settings without a flag.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CheckpointError, integer, integers, number, type Values } from "../../engine/host/index.ts";
import { largestPenalty, lowestTemperature, noWarping, type Warping } from "../../engine/index.ts";
import { readModelJson } from "../checkpoint-files.ts";

export const samplingSettings = {
  temperature: number({
    default: 1,
    min: 0,
    meaning: `the logits are divided by this, at least ${lowestTemperature}; 0: always the likeliest token (greedy)`,
  }),
  "top-k": integer({
    default: noWarping.topK,
    min: 0,
    unit: "tokens",
    meaning: "sample from this many of the likeliest tokens; 0: from all",
  }),
  "top-p": number({
    default: noWarping.topP,
    above: 0,
    max: 1,
    meaning: "sample from the likeliest tokens that together have this probability; 1: from all",
  }),
  "repetition-penalty": number({
    default: noWarping.repetitionPenalty,
    min: 1 / largestPenalty,
    max: largestPenalty,
    meaning: "logits of tokens that occurred already are divided by this (multiplied if negative); 1: no penalty",
  }),
  seed: integer({ default: 1, min: 0, meaning: "random seed of the sampling: the same seed gives the same tokens" }),
  "stop-tokens": integers({ default: [], min: 0, meaning: "ids that end a completion, besides the model's own" }),
} as const;

/** The problems with a sampling temperature, in the form that a settings check returns. */
export function temperatureProblems(key: string, temperature: number): string[] {
  return temperature === 0 || temperature >= lowestTemperature
    ? []
    : [`${key}: expected 0 (greedy) or a number from ${lowestTemperature} on, got ${temperature}`];
}

export interface Sampling {
  readonly temperature: number;
  readonly warping: Warping;
}

/** The sampling that the settings ask for. */
export function samplingOf(values: Values<typeof samplingSettings>): Sampling {
  return {
    temperature: values.temperature,
    warping: {
      topK: values["top-k"],
      topP: values["top-p"],
      repetitionPenalty: values["repetition-penalty"],
    },
  };
}

const fileSchema = z.object({
  do_sample: z.boolean().nullish(),
  temperature: z
    .number()
    .refine((temperature) => temperatureProblems("", temperature).length === 0, {
      error: ({ input }) => `expected 0 (greedy) or a number from ${lowestTemperature} on, got ${String(input)}`,
    })
    .nullish(),
  top_k: z.number().int().nonnegative().nullish(),
  top_p: z.number().positive().max(1).nullish(),
  repetition_penalty: z
    .number()
    .min(1 / largestPenalty)
    .max(largestPenalty)
    .nullish(),
});

/**
 * The sampling of a model's generation_config.json; flags on the command line override it. As in transformers,
 * `do_sample` false or absent means greedy. A processor that the file does not mention is off.
 * @param given  keys of the settings given on the command line
 * @throws CheckpointError when the file does not exist, or a value is out of its bounds
 */
export async function samplingOfFile(folder: string, own: Sampling, given: ReadonlySet<string>): Promise<Sampling> {
  const path = join(folder, "generation_config.json");
  if (!existsSync(path))
    throw new CheckpointError(
      `${path}: not found. Leave out --generation-config, and give the sampling values as flags.`,
    );
  const parsed = fileSchema.safeParse(readModelJson(path));
  if (!parsed.success) throw new CheckpointError(`${path}: ${z.prettifyError(parsed.error)}`);
  const file = parsed.data;
  const temperature = file.do_sample === true ? (file.temperature ?? 1) : 0;
  return {
    temperature: given.has("temperature") ? own.temperature : temperature,
    warping: {
      topK: given.has("top-k") ? own.warping.topK : (file.top_k ?? noWarping.topK),
      topP: given.has("top-p") ? own.warping.topP : (file.top_p ?? noWarping.topP),
      repetitionPenalty: given.has("repetition-penalty")
        ? own.warping.repetitionPenalty
        : (file.repetition_penalty ?? noWarping.repetitionPenalty),
    },
  };
}
