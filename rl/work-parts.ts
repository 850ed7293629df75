// What a run computes, counted from its settings before it starts: conversations, tokens and operations of each part.
// The length of answers is not known in advance; everything that depends on it is counted twice, for answers as long as
// right ones (if the environment knows them) and for answers of maximum length.
import type { Chat, LanguageModel } from "../model/index.ts";
import { type Environment, type Episode, episodeList, isWorked, turnsOf } from "./environments/environment.ts";
import { openingOf } from "./openings.ts";
import { trainingShare, type WorkRates } from "./probe.ts";
import type { RunValues } from "./run-settings.ts";
import { sampledSteps } from "./step-rollouts.ts";
import { attentionFlops, forwardFlops, headFlops } from "./work.ts";

/** One number for answers as long as right ones, and one for answers of maximum length. */
export interface Range {
  readonly right: number;
  readonly most: number;
}

export interface WorkPart {
  readonly name: string;
  readonly conversations: number;
  /** Tokens that are sampled, and tokens that forward passes read: prompts, later user turns, scored conversations. */
  readonly sampled: Range;
  readonly read: Range;
  /** Operations by kind; a multiply-add is two. */
  readonly flops: Readonly<Record<keyof Omit<WorkRates, "basis">, Range>>;
}

/** Mean tokens of a conversation: the prompt, later user turns, and all answers. */
export interface Lengths {
  readonly prompt: number;
  readonly followUp: number;
  readonly answer: Range;
}

/** Enough episodes for the means. */
const sampledEpisodes = 64;

/** Mean lengths of the conversations of an episode list. `knowsRight` is false if right answers are unknown. */
export function lengthsOf(
  chat: Chat,
  environment: Environment,
  { seed, count, maxNewTokens }: { seed: number; count: number; maxNewTokens: number },
): Lengths & { readonly knowsRight: boolean } {
  const wanted = Math.max(1, Math.min(count, sampledEpisodes));
  const episodes: Episode[] = episodeList(environment, seed).slice(0, wanted);
  const mean = (of: (episode: Episode) => number): number =>
    episodes.reduce((sum, episode) => sum + of(episode), 0) / episodes.length;
  const most = mean((episode) => turnsOf(episode) * maxNewTokens);
  const right = rightLengths(chat, environment, seed, wanted, maxNewTokens);
  return {
    prompt: mean((episode) => openingOf(episode, chat).prompt.length),
    followUp: mean((episode) => openingOf(episode, chat).followUpTokens),
    answer: { right: right ?? most, most },
    knowsRight: right !== null,
  };
}

/** Mean tokens of the right answers of an episode, end tokens included, each at most the maximum length; null if unknown. */
function rightLengths(
  chat: Chat,
  environment: Environment,
  seed: number,
  count: number,
  maxNewTokens: number,
): number | null {
  if (!isWorked(environment)) return null;
  let sum = 0;
  let made = 0;
  for (const { workedTurns } of environment.episodes(seed)) {
    if (made === count) break;
    for (const { formatted } of workedTurns) sum += Math.min(maxNewTokens, chat.tokenizer.encode(formatted).length + 1);
    made++;
  }
  return made === 0 ? null : sum / made;
}

/** The steps at which a run is evaluated. */
export function evaluations({ train, evaluate }: Pick<RunValues, "train" | "evaluate">): number {
  return Math.floor(train.steps / evaluate.every) + 1 + (train.steps % evaluate.every === 0 ? 0 : 1);
}

/** Generation of `count` conversations, `perPrompt` of each prompt. */
export function generationWork(
  config: LanguageModel,
  name: string,
  count: number,
  perPrompt: number,
  lengths: Lengths,
): WorkPart {
  const both = (of: (answer: number) => number): Range => range(lengths, (answer) => count * of(answer));
  // A prompt that several rollouts share is read once; each of them reads its last token.
  const read = lengths.prompt / perPrompt + 1 + lengths.followUp;
  const whole = (answer: number): number => lengths.prompt + lengths.followUp + answer;
  return {
    name,
    conversations: count,
    sampled: both((answer) => answer),
    read: both(() => read),
    flops: {
      decode: both(
        (answer) => answer * (forwardFlops(config) + headFlops(config) + attentionFlops(config, whole(answer) / 1.5)),
      ),
      forward: both(() => read * (forwardFlops(config) + attentionFlops(config, lengths.prompt / 2))),
      training: none,
    },
  };
}

/** Forward passes over whole conversations; `passes` counts a backward pass as well. */
export function scoringWork(
  config: LanguageModel,
  name: string,
  count: number,
  lengths: Lengths,
  kind: "forward" | "training",
  passes: number,
): WorkPart {
  const whole = (answer: number): number => lengths.prompt + lengths.followUp + answer;
  const flops = range(
    lengths,
    (answer) =>
      count *
      passes *
      (whole(answer) * (forwardFlops(config) + attentionFlops(config, whole(answer) / 2)) + answer * headFlops(config)),
  );
  return {
    name,
    conversations: count,
    sampled: none,
    read: range(lengths, (answer) => count * whole(answer)),
    flops: { decode: none, forward: none, training: none, [kind]: flops },
  };
}

/** What is known of a run's work. */
export interface RunWork {
  readonly parts: readonly WorkPart[];
  readonly lengths: Lengths;
  readonly knowsRight: boolean;
}

/** The parts of training, with its evaluations. Parts without conversations are left out. */
export function trainingWork(
  config: LanguageModel,
  chat: Chat,
  environment: Environment,
  settings: Pick<RunValues, "train" | "evaluate" | "batch">,
): RunWork {
  const { train, evaluate, batch } = settings;
  const { knowsRight, ...trained } = lengthsOf(chat, environment, {
    seed: train.episodeSeed,
    count: train.promptsPerStep,
    maxNewTokens: train.maxNewTokens,
  });
  const evaluated = lengthsOf(chat, environment, {
    seed: evaluate.episodeSeed,
    count: evaluate.episodes,
    maxNewTokens: train.maxNewTokens,
  });
  const perStep = train.promptsPerStep * train.rolloutsPerPrompt;
  const parts = [
    generationWork(config, "training: rollouts", sampledSteps(train) * perStep, train.rolloutsPerPrompt, trained),
    scoringWork(
      config,
      "training: updates",
      train.steps * train.updatesPerBatch * perStep,
      trained,
      "training",
      trainingShare(batch.recompute),
    ),
    generationWork(config, "training: evaluations", evaluations(settings) * evaluate.episodes, 1, evaluated),
  ];
  return { parts: parts.filter(({ conversations }) => conversations > 0), lengths: trained, knowsRight };
}

const none: Range = { right: 0, most: 0 };

function range({ answer }: Lengths, of: (answer: number) => number): Range {
  return { right: of(answer.right), most: of(answer.most) };
}

/** Operations of a part, of all kinds. */
export function flopsOf({ flops }: WorkPart): Range {
  const kinds = Object.values(flops);
  return {
    right: kinds.reduce((sum, { right }) => sum + right, 0),
    most: kinds.reduce((sum, { most }) => sum + most, 0),
  };
}

/** Seconds of a part at these rates. */
export function secondsOf({ flops }: WorkPart, rates: WorkRates): Range {
  const at = (which: keyof Range): number =>
    flops.decode[which] / rates.decode + flops.forward[which] / rates.forward + flops.training[which] / rates.training;
  return { right: at("right"), most: at("most") };
}
