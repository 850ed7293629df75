// The size of a run folder, from the formats of its files (docs/formats.md). Sizes of weights follow from the model's shape. Texts
// are made up, with right answers in varied order, written in their format, and counted.
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipMember } from "../engine/host/index.ts";
import { sizeOf } from "../engine/index.ts";
import { type LanguageModel, tokenizerFiles } from "../model/index.ts";
import { groupAdvantages } from "./advantage.ts";
import {
  type Environment,
  type Episode,
  episodeList,
  isWorked,
  openingMessages,
  type Reward,
  type WorkedEpisode,
} from "./environments/environment.ts";
import { labelledRandom } from "./environments/python/random.ts";
import { verdictOf } from "./environments/verdict.ts";
import type { RunValues } from "./run-settings.ts";
import { rolloutsOfStep, stateTensors } from "./training-settings.ts";
import { evaluations } from "./work-parts.ts";

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

/** Of a checkpoint, which is f32. */
export function bytesOfWeights(config: LanguageModel): number {
  return [...config.parameters().values()].reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0);
}

/** @param modelFolder  the model's folder, whose other files are copied into every checkpoint; null if it is not at hand */
export function trainingDisk(
  config: LanguageModel,
  environment: Environment,
  { train, evaluate }: Pick<RunValues, "train" | "evaluate">,
  modelFolder: string | null,
): DiskPlan {
  const shapes = [...config.parameters().values()].map(({ shape }) => shape);
  const weights = shapes.reduce((sum, shape) => sum + 4 * sizeOf(shape) + headBytes, 0);
  const state = stateTensors(train) * weights;
  const kept = { all: 2, last: 1, none: 0 }[train.keepState];
  const parts = new Map([
    ["checkpoints", train.checkpoints.length * (weights + otherFiles(modelFolder))],
    ["training state", kept * state],
    [
      "training rollouts",
      train.steps *
        conversationBytes(
          ...([environment, train.episodeSeed, train.promptsPerStep] as const),
          rolloutsOfStep(train).all / train.promptsPerStep,
          "training",
        ),
    ],
    [
      "conversations of evaluations",
      evaluations({ train, evaluate }) *
        conversationBytes(environment, evaluate.episodeSeed, evaluate.episodes, 1, "evaluation"),
    ],
    [
      "metrics and events",
      (train.steps + 1) * recordBytes + evaluationBytes * Math.floor(train.steps / evaluate.every),
    ],
  ]);
  const total = [...parts.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { parts, peak: total + (train.steps === 0 ? 1 : 3 - kept) * state };
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
export const writtenPrompts = 64;

/**
 * Bytes of a gzip member with the conversations of `prompts` prompts, `each` rollouts of each.
 * @param of  which decides the fields: rollouts of a training step, of an evaluation, or at a grid point
 */
export function conversationBytes(
  environment: Environment,
  seed: number,
  prompts: number,
  each: number,
  of: "training" | "evaluation" | "grid point" = "grid point",
): number {
  const made = Math.max(1, Math.min(prompts, writtenPrompts));
  const random = labelledRandom(`plan|conversations|${seed}`);
  const varied = (answer: string): string => {
    const words = answer.split("\n");
    if (random.random() < 0.3) random.shuffle(words);
    return words.join("\n");
  };
  // About one token per four letters.
  const madeUpIds = (text: string): number[] =>
    Array.from({ length: Math.ceil(text.length / 4) + 1 }, () => random.randint(0, 50_000));
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
          : openingMessages(episode);
      const answers = messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
      return { messages, answers, ...verdictForSize(environment, episode, answers) };
    });
    const advantages = groupAdvantages(
      "grpo",
      rollouts.map(({ reward }) => reward),
    );
    return rollouts.map(({ messages, answers, reward, parts }, rollout) => {
      const more = { rollout, reward, ...parts, tokens: 40, isTruncated: false };
      return JSON.stringify({
        episode: episode.index,
        ...(of === "grid point" ? { reward } : more),
        ...(of === "training" && { advantage: advantages[rollout] }),
        failure: null,
        messages,
        ...(of === "evaluation" && { answers: answers.map(madeUpIds) }),
      });
    });
  });
  return (gzipMember(`${lines.join("\n")}\n`).length * prompts) / made;
}

/** A verdict of the usual size. A scorer outside this process is not asked: a plan starts no programs. */
function verdictForSize(environment: Environment, episode: Episode, answers: readonly string[]): Reward {
  if (environment.scoresOutside) return { reward: 1 };
  try {
    const score = episode.score(answers);
    if (typeof score === "object" && "then" in score) {
      score.catch(() => {}); // it fails again in a rollout, and is recorded there
      return { reward: 1 };
    }
    return verdictOf(episode, score);
  } catch {
    return { reward: 0 };
  }
}

function firstOf<T>(list: Iterable<T>, count: number): T[] {
  const found: T[] = [];
  for (const one of list) {
    if (found.length === count) break;
    found.push(one);
  }
  return found;
}
