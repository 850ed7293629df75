// The size of a run folder, from the formats of its files (docs/formats.md). Sizes of weights follow from the model's shape. Texts and
// measurements are made up, with right answers in varied order and random numbers, written in their format, and counted.
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipMember } from "../../engine/host/index.ts";
import { sizeOf } from "../../engine/index.ts";
import { type LanguageModel, tokenizerFiles } from "../../model/index.ts";
import {
  type Environment,
  type Episode,
  episodeList,
  groupAdvantages,
  isWorked,
  labelledRandom,
  type WorkedEpisode,
} from "../../rl/index.ts";
import type { StudySettings } from "../settings.ts";
import type { Lengths } from "./work.ts";

export interface DiskPlan {
  /** Bytes by what they are for, at the end of the run. */
  readonly parts: ReadonlyMap<string, number>;
  /** The most that the folder holds at a time: a training state is written in full before it replaces another. */
  readonly peak: number;
}

/** Bytes of tokenizer files of a model that is not at hand: those of Qwen2.5. */
const publishedTokenizerBytes = 11.5e6;
/** A tensor's entry in the head of a safetensors file. */
const headBytes = 110;

/** Bytes of metrics, TensorBoard events and timings of a step, and of an evaluation besides. */
const recordBytes = 2600;
const evaluationBytes = 900;
/** The report without maps, its fonts and script; the figures of a map, and of the study as a whole. */
const reportBytes = 900_000;
const figuresPerMap = 330_000;

/** @param modelFolder  the model's folder, whose other files are copied into every checkpoint; null if it is not at hand */
export function diskOf(
  config: LanguageModel,
  environment: Environment,
  settings: StudySettings,
  lengths: { landscape: Lengths },
  modelFolder: string | null,
): DiskPlan {
  const { train, landscape } = settings;
  const { points, slices, steps, rollouts, reference } = landscape;
  const shapes = [...config.parameters().values()].map(({ shape }) => shape);
  const weights = shapes.reduce((sum, shape) => sum + 4 * sizeOf(shape) + headBytes, 0);
  const state = 3 * weights;
  const kept = { all: 2, last: 1, none: 0 }[train.keepState];
  const cells = steps.length * slices * points ** 2;
  const conversations = Math.min(landscape.conversations, rollouts.prompts) * rollouts.rollouts;
  const said =
    conversations === 0
      ? 0
      : conversationBytes(
          environment,
          landscape.episodeSeed,
          Math.min(landscape.conversations, rollouts.prompts),
          rollouts.rollouts,
        );
  const parts = new Map([
    ["checkpoints", train.checkpoints.length * (weights + otherFiles(modelFolder))],
    ["training state", kept * state],
    [
      "training rollouts",
      train.steps *
        conversationBytes(environment, train.episodeSeed, train.promptsPerStep, train.rolloutsPerPrompt, true),
    ],
    ["cells", cells * cellBytes(rollouts, reference, lengths.landscape.answer.right)],
    ["conversations of cells", cells * said],
    [
      "metrics and events",
      (train.steps + 1) * recordBytes + evaluationBytes * Math.floor(train.steps / settings.evaluate.every),
    ],
    ["figures and report", reportBytes + steps.length * slices * figuresPerMap + 3 * cells * said],
  ]);
  // Maps around checkpoints of another training: they are not copied, and nothing is trained.
  if (settings.checkpoints.length > 0)
    for (const part of ["checkpoints", "training state", "training rollouts", "metrics and events"]) parts.set(part, 0);
  const total = [...parts.values()].reduce((sum, bytes) => sum + bytes, 0);
  return settings.checkpoints.length > 0
    ? { parts, peak: total }
    : { parts, peak: total + (train.steps === 0 ? 1 : 3 - kept) * state };
}

/** Bytes of the files that every checkpoint copies. */
function otherFiles(modelFolder: string | null): number {
  if (modelFolder === null) return publishedTokenizerBytes;
  const names = ["config.json", "generation_config.json", ...tokenizerFiles];
  return names
    .map((name) => join(modelFolder, name))
    .filter((path) => existsSync(path))
    .reduce((sum, path) => sum + statSync(path).size, 500);
}

/** Most prompts that are written to count bytes; more are as many times as large. */
const writtenPrompts = 64;

/** A line of cells.jsonl for a cell, as JSON of random numbers. */
export function cellBytes(
  rollouts: { readonly prompts: number; readonly rollouts: number },
  reference: { readonly prompts: number; readonly rollouts: number },
  answerTokens: number,
): number {
  const random = labelledRandom("plan|cell");
  const set = (
    { prompts, rollouts: each }: { readonly prompts: number; readonly rollouts: number },
    quantities: Readonly<Record<string, () => number>>,
  ): number => {
    const made = Math.min(prompts, writtenPrompts);
    const values = Object.fromEntries(
      Object.entries(quantities).map(([name, value]) => [
        name,
        Array.from({ length: made }, () => Array.from({ length: each }, value)),
      ]),
    );
    return (JSON.stringify(values).length * prompts) / made;
  };
  const long = (): number => random.random() * answerTokens;
  return (
    250 +
    set(rollouts, {
      reward: () => (random.random() < 0.5 ? Math.round(random.random()) : random.random()),
      tokens: () => Math.round(answerTokens),
      entropy: long,
      truncated: () => 0,
      formatFailed: () => 0,
    }) +
    set(reference, { kl: long, k1: long, k3: long, objective: long, entropy: long })
  );
}

/**
 * Bytes of a gzip member with the conversations of `prompts` prompts, `each` rollouts of each.
 * @param isTraining  with the fields of a training step's rollouts
 */
export function conversationBytes(
  environment: Environment,
  seed: number,
  prompts: number,
  each: number,
  isTraining = false,
): number {
  const made = Math.max(1, Math.min(prompts, writtenPrompts));
  const random = labelledRandom(`plan|conversations|${seed}`);
  const varied = (answer: string): string => {
    const words = answer.split("\n");
    if (random.random() < 0.3) random.shuffle(words);
    return words.join("\n");
  };
  const episodes: readonly (Episode | WorkedEpisode)[] = isWorked(environment)
    ? firstOf(environment.episodes(seed), made)
    : episodeList(environment, seed).slice(0, made);
  const lines = episodes.flatMap((episode) => {
    const rollouts = Array.from({ length: each }, () => {
      const messages =
        "workedTurns" in episode
          ? episode.workedTurns.flatMap(({ user, formatted }) => [
              { role: "user", content: user },
              { role: "assistant", content: varied(formatted) },
            ])
          : [{ role: "user", content: episode.prompt }];
      const answers = messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
      return { messages, ...episode.score(answers) };
    });
    const advantages = groupAdvantages(
      "grpo",
      rollouts.map(({ reward }) => reward),
    );
    return rollouts.map(({ messages, reward, parts }, rollout) => {
      const training = { rollout, reward, advantage: advantages[rollout], ...parts, isTruncated: false };
      return JSON.stringify({
        episode: episode.index,
        ...(isTraining ? training : { reward }),
        failure: null,
        messages,
      });
    });
  });
  return (gzipMember(`${lines.join("\n")}\n`).length * prompts) / made;
}

function firstOf<T>(list: Iterable<T>, count: number): T[] {
  const found: T[] = [];
  for (const one of list) {
    if (found.length === count) break;
    found.push(one);
  }
  return found;
}
