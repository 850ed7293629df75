// What a training step looked like: the best, the worst and a random conversation, with rewards and advantages, and the tokens
// that moved most. Everything but the last is read from the run's files and needs no GPU.
//
//   node rl/show.ts runs/tiny --step 5
//   node rl/show.ts runs/tiny --step 20 --evaluation
import { dirname } from "node:path";
import {
  asError,
  backendSettings,
  boolean,
  defineSettings,
  FileError,
  integer,
  runCommand,
  settingsError,
} from "../engine/host/index.ts";
import { adapterLine, openBackend } from "../engine/index.ts";
import { labelledRandom } from "./environments/python/random.ts";
import { evaluationRolloutsPath, stepsOf, trainingRolloutsPath } from "./files/layout.ts";
import { readSettings } from "./files/run-settings.ts";
import {
  type Conversation,
  readEvaluationRollouts,
  readStepRollouts,
  type SampledRollout,
} from "./files/training-samples.ts";
import { keptSteps } from "./kept-checkpoints.ts";
import { checkpointsAround, type MovedTokens, movedTokens } from "./moved-tokens.ts";
import { runDeclaration } from "./run-settings.ts";

const settings = defineSettings({
  step: integer({ default: -1, min: -1, meaning: "the training step; −1: the last one" }),
  evaluation: boolean({
    default: false,
    meaning:
      "show the evaluation after the step instead of the rollouts that it learned from; step 0 is the starting model",
  }),
  seed: integer({ default: 1, min: 0, meaning: "random seed for the conversation that is chosen at random" }),
  moved: boolean({
    default: true,
    meaning: "show the tokens that moved most; this loads two checkpoints of the run and computes with them",
  }),
  tokens: integer({ default: 8, min: 1, unit: "tokens", meaning: "how many of them are shown per conversation" }),
  ...backendSettings,
});

/** A conversation as it is shown: of a training step, or of an evaluation, which has no advantages. */
type Shown = Conversation & Partial<Pick<SampledRollout, "advantage" | "isUsed">>;

interface Files {
  pathOf(folder: string, step: number): string;
  read(path: string): Shown[];
  /** What the folder lacks, and why it may lack all of it. */
  readonly missing: string;
  readonly none: string;
}
const trainingFiles: Files = {
  ...{ pathOf: trainingRolloutsPath, read: readStepRollouts },
  ...{ missing: "rollouts of", none: "no rollouts yet: no training step is done" },
};
const evaluationFiles: Files = {
  ...{ pathOf: evaluationRolloutsPath, read: readEvaluationRollouts },
  ...{
    missing: "conversations of an evaluation after",
    none: "no conversations of evaluations: none is done, or an earlier version did them",
  },
};

await runCommand({
  name: "node rl/show.ts",
  summary: "Shows the best, the worst and a random conversation of a training step, and the tokens that moved most.",
  settings,
  positional: [{ name: "RUN", meaning: "the run folder", required: true }],
  examples: [
    ["node rl/show.ts runs/tiny", "the last step"],
    ["node rl/show.ts runs/tiny --step 5 --no-moved", "from the run's files alone, without an adapter"],
    ["node rl/show.ts runs/tiny --step 20 --evaluation --no-moved", "what the evaluation after step 20 said"],
  ],
  main: async ({ values, positionals: [folder], progress }) => {
    const run = await readSettings(folder, runDeclaration);
    const kind = values.evaluation ? evaluationFiles : trainingFiles;
    const step = stepOf(folder, values.step, kind);
    const rollouts = rolloutsOf(folder, step, kind);
    const print = (line: string): void => void process.stdout.write(`${line}\n`);
    print(summaryOf(folder, step, rollouts, kind));
    const chosen = choose(rollouts, `show|${values.seed}|${step}`);
    let moved: readonly MovedTokens[] | null = null;
    if (values.moved) {
      const kept = keptSteps(folder);
      const around = checkpointsAround(kept, step);
      print(whatMoved(step, around, kept));
      if (around !== null) {
        const opened = await openBackend(values);
        try {
          progress.line(adapterLine(opened));
          const shown = chosen.map(({ rollout }) => rollout);
          moved = await movedTokens(opened.backend, folder, run, shown, around, progress);
        } finally {
          opened.backend.destroy();
        }
      }
    }
    for (const [i, { name, rollout }] of chosen.entries()) {
      print("");
      for (const line of conversationLines(name, rollout)) print(line);
      if (moved !== null) for (const line of movedLines(moved[i], values.tokens)) print(line);
    }
  },
});

/** The step that is meant. @throws SettingsError when the run has no rollouts of it */
function stepOf(folder: string, wanted: number, { pathOf, missing, none }: Files): number {
  const steps = stepsOf(dirname(pathOf(folder, 0)));
  const step = wanted === -1 ? steps.at(-1) : wanted;
  if (step === undefined) throw settingsError([`${folder}: it has ${none}`]);
  if (!steps.includes(step)) {
    const last = steps.at(-1);
    const isEach = last !== undefined && steps.length === last - steps[0] + 1;
    const has = isEach ? `steps ${steps[0]} to ${last}` : `those of steps ${steps.join(", ") || "none"}`;
    throw settingsError([`step: ${folder} has no ${missing} step ${step}; it has ${has}`]);
  }
  return step;
}

function rolloutsOf(folder: string, step: number, { pathOf, read }: Files): Shown[] {
  const path = pathOf(folder, step);
  try {
    return read(path);
  } catch (thrown) {
    throw new FileError(`${path}: cannot be read (${asError(thrown).message.split("\n")[0]}). Restore it from a copy.`);
  }
}

function summaryOf(folder: string, step: number, rollouts: readonly Shown[], kind: Files): string {
  const rewards = rollouts.map(({ reward }) => reward);
  const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
  // No Math.min(...rewards): a call takes some 100,000 arguments, and a user sets how many rollouts there are.
  const lowest = rewards.reduce((least, reward) => Math.min(least, reward), Number.POSITIVE_INFINITY);
  const highest = rewards.reduce((most, reward) => Math.max(most, reward), Number.NEGATIVE_INFINITY);
  const prompts = new Set(rollouts.map(({ episode }) => episode));
  const cut = rollouts.filter(({ isTruncated }) => isTruncated).length;
  const still = [...prompts].filter((one) =>
    rollouts.every(({ episode, advantage }) => episode !== one || advantage === 0),
  );
  const name = kind === evaluationFiles ? `evaluation after step ${step}` : `step ${step}`;
  return (
    `${folder}, ${name}: ${rollouts.length} rollouts of ${prompts.size} prompts. Reward ${mean.toFixed(3)} on average, ` +
    `${lowest.toFixed(3)} to ${highest.toFixed(3)}; ${cut} with an answer cut off` +
    (kind === evaluationFiles ? "." : `; ${still.length} prompts whose rollouts all have advantage 0.`)
  );
}

/** The first of the best, the first of the worst, and a random one of the others. */
function choose(rollouts: readonly Shown[], label: string): { name: string; rollout: Shown }[] {
  const best = rollouts.reduce((one, other) => (other.reward > one.reward ? other : one));
  const worst = rollouts.reduce((one, other) => (other.reward < one.reward ? other : one));
  const others = rollouts.filter((one) => one !== best && one !== worst);
  const random = others.length === 0 ? null : others[labelledRandom(label).randint(0, others.length - 1)];
  return [
    { name: "Best", rollout: best },
    { name: best === worst ? "Worst (all have the same reward)" : "Worst", rollout: worst },
    ...(random === null ? [] : [{ name: "Random", rollout: random }]),
  ];
}

function conversationLines(name: string, rollout: Shown): string[] {
  const {
    episode,
    rollout: number,
    reward,
    advantage,
    tokens,
    isTruncated,
    isUsed = true,
    failure,
    messages,
  } = rollout;
  const signed = advantage === undefined ? "" : `, advantage ${advantage > 0 ? "+" : ""}${advantage.toFixed(3)}`;
  const remarks = [
    ...(tokens === null ? [] : [`${tokens} tokens`]),
    ...(isTruncated ? ["an answer was cut off"] : []),
    ...(isUsed ? [] : ["left out of the update"]),
    ...(failure === null ? [] : [`the environment failed: ${failure}`]),
  ];
  return [
    `--- ${name}: reward ${reward.toFixed(3)}${signed}   (episode ${episode}, rollout ${number}${remarks.map((one) => `, ${one}`).join("")})`,
    ...messages.flatMap(({ role, content }) => [`${role}:`, ...content.split("\n").map((line) => `    ${line}`)]),
  ];
}

/** What the table of tokens compares, or why there is none. */
function whatMoved(step: number, around: { before: number; after: number } | null, kept: readonly number[]): string {
  if (around === null)
    return (
      `Tokens that moved: cannot be shown. It needs a kept checkpoint before step ${step} and one from it on; the run keeps ` +
      `${kept.join(", ") || "none"} (train.checkpoints).`
    );
  const { before, after } = around;
  const exact = before === step - 1 && after === step;
  return (
    `Tokens that moved: log-probability under checkpoint ${before} → under checkpoint ${after}; + means that the token became likelier. ` +
    (exact
      ? "These are the weights before and after this step's update."
      : `This step's own update, from the weights of step ${step - 1} to those of step ${step}, is one of the ${after - before} in between: ` +
        "the run keeps no closer checkpoints (train.checkpoints).")
  );
}

function movedLines({ tokens, counted, sampled }: MovedTokens, count: number): string[] {
  const quoted = (text: string): string => JSON.stringify(text);
  const rows = tokens.slice(0, count).map(({ text, context, before, after }) => {
    const change = after - before;
    const numbers = `${before.toFixed(2).padStart(8)} → ${after.toFixed(2).padStart(7)}  ${`${change > 0 ? "+" : ""}${change.toFixed(2)}`.padStart(7)}`;
    return `  ${numbers}  ${quoted(text)} after ${quoted(context)}`;
  });
  return [
    `Tokens that moved most (${rows.length} of ${counted}):`,
    ...rows,
    ...(sampled === null || sampled === counted
      ? []
      : [
          `  The text has ${counted} tokens; ${sampled} were sampled, so some were cut otherwise, and these numbers are the text's.`,
        ]),
  ];
}
