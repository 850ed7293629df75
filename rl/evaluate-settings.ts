// What can be set about an evaluation of its own (rl/evaluate.ts). Keys that a run has too have the same names here, so a run's
// config.toml and settings files can be read; what only training and landscape use in them is left out.
import { existsSync } from "node:fs";
import {
  backendSettings,
  choice,
  defineSettings,
  integer,
  number,
  settingsError,
  text,
  type Values,
} from "../engine/host/index.ts";
import { temperatureProblems } from "../model/index.ts";
import {
  environmentApplies,
  environmentProblems,
  environmentSettings,
  formerEnvironmentKeys,
} from "./environments/registry.ts";
import { configPath } from "./files/layout.ts";
import { expectNoSweep } from "./files/run-settings.ts";
import { runSettings } from "./run-settings.ts";
import { batchSettings, evaluateSettings, modelSettings, trainSettings } from "./settings.ts";
import { filesOf } from "./settings-files.ts";

const tree = {
  out: text({
    default: "",
    changes: "free",
    meaning: "folder for evaluation.json and conversations.jsonl.gz; empty: nothing is written",
  }),
  step: integer({
    default: -1,
    min: -1,
    meaning: "the checkpoint of the run folder that is evaluated; −1: the last one",
  }),
  ...backendSettings,
  model: {
    path: modelSettings.path,
    adapter: text({
      default: "",
      meaning: "folder of a LoRA adapter of peft, which is merged into the model's weights; empty for none",
    }),
    precision: choice({
      default: "f32",
      options: ["f32", "f16"],
      meaning:
        "number format of matrices, KV cache and what they are multiplied with; sums and probabilities are f32 always (docs/precision.md)",
    }),
  },
  environment: environmentSettings,
  // As a run has them: its evaluations draw with these too.
  train: { seed: trainSettings.seed, maxNewTokens: trainSettings.maxNewTokens },
  evaluate: {
    episodes: evaluateSettings.episodes,
    episodeSeed: evaluateSettings.episodeSeed,
    temperature: evaluateSettings.temperature,
    rollouts: integer({
      default: 1,
      min: 1,
      max: 65_536, // beyond it a prompt would meet the noise of its next pass (rl/rollout.ts)
      unit: "rollouts",
      meaning: "rollouts per episode; pass@k is given for k up to this",
    }),
    topK: integer({
      default: 0,
      min: 0,
      unit: "tokens",
      meaning: "sample from this many of the likeliest tokens; 0: from all",
    }),
    topP: number({
      default: 1,
      above: 0,
      max: 1,
      meaning: "sample from the likeliest tokens that together have this probability; 1: from all",
    }),
    passReward: number({ default: 1, meaning: "a rollout with at least this reward counts as solved, for pass@k" }),
  },
  batch: { rows: batchSettings.rows, tokens: batchSettings.tokens },
} as const;

export type EvaluateValues = Values<typeof tree>;

const declared = defineSettings(tree);
/** Keys and sections that a run's files have and an evaluation does not read. */
const elsewhere: ReadonlyMap<string, string> = new Map([
  ["landscape", "node landscape/run.ts"],
  ...[...runSettings.byKey.keys()]
    .filter((key) => !declared.byKey.has(key))
    .map((key) => [key, "node rl/train.ts"] as const),
]);

export const evaluateCommandSettings = defineSettings(
  tree,
  ({ environment, evaluate }) => [
    ...temperatureProblems("evaluate.temperature", evaluate.temperature),
    ...environmentProblems(environment),
  ],
  {
    names: { renamed: formerEnvironmentKeys, answer: (key) => runSettings.names.answer?.(key) ?? null, elsewhere },
    applies: (key, { environment }) => environmentApplies(key, environment),
  },
);

/** The run folder among a command's positionals; null if there is none. */
export function runFolderOf(named: readonly string[]): string | null {
  const folders = named.filter((name) => existsSync(configPath(name)));
  if (folders.length > 1)
    throw settingsError([`expected one run folder, got ${folders.join(" and ")}: each has checkpoints of its own`]);
  return folders.at(0) ?? null;
}

/** The settings files that the positionals name: a run folder stands for its config.toml. */
export function evaluatedFiles(named: readonly string[]): string[] {
  const folder = runFolderOf(named);
  if (folder !== null) expectNoSweep(folder, evaluateCommandSettings);
  return named.flatMap((name) =>
    existsSync(configPath(name)) ? [configPath(name)] : filesOf(evaluateCommandSettings, [name]),
  );
}
