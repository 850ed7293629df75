// What a study computes, counted from its settings before it starts: conversations, tokens and operations of each part.
// The length of answers is not known in advance; everything that depends on it is counted twice, for answers as long as
// right ones (if the environment knows them) and for answers of maximum length.
import type { Chat, LanguageModel } from "../../model/index.ts";
import {
  attentionFlops,
  type Environment,
  type Episode,
  episodeList,
  forwardFlops,
  headFlops,
  isWorked,
  openingOf,
  trainingShare,
  type WorkRates,
} from "../../rl/index.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";

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
  const most = mean(({ turns }) => turns * maxNewTokens);
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
export function evaluations({ train, evaluate }: Pick<StudySettings, "train" | "evaluate">): number {
  return Math.floor(train.steps / evaluate.every) + 1 + (train.steps % evaluate.every === 0 ? 0 : 1);
}

/** Every part of the study. */
export function workOf(
  config: LanguageModel,
  chat: Chat,
  environment: Environment,
  settings: StudySettings,
): { parts: WorkPart[]; lengths: { train: Lengths; landscape: Lengths }; knowsRight: boolean } {
  const { train, evaluate, landscape, batch } = settings;
  const { reference, rollouts, slices, steps } = landscape;
  const trained = lengthsOf(chat, environment, {
    seed: train.episodeSeed,
    count: train.promptsPerStep,
    maxNewTokens: train.maxNewTokens,
  });
  const evaluated = lengthsOf(chat, environment, {
    seed: evaluate.episodeSeed,
    count: evaluate.episodes,
    maxNewTokens: train.maxNewTokens,
  });
  const swept = lengthsOf(chat, environment, {
    seed: landscape.episodeSeed,
    count: Math.max(reference.prompts, rollouts.prompts),
    maxNewTokens: landscape.maxNewTokens,
  });
  const perStep = train.promptsPerStep * train.rolloutsPerPrompt;
  const maps = steps.length * slices;
  const cells = maps * shardCells(settings.shard, landscape).length;
  const ofReference = reference.prompts * reference.rollouts;
  const generation = (name: string, count: number, perPrompt: number, lengths: Lengths): WorkPart => {
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
  };
  const scoring = (
    name: string,
    count: number,
    lengths: Lengths,
    kind: "forward" | "training",
    passes: number,
  ): WorkPart => {
    const whole = (answer: number): number => lengths.prompt + lengths.followUp + answer;
    const flops = range(
      lengths,
      (answer) =>
        count *
        passes *
        (whole(answer) * (forwardFlops(config) + attentionFlops(config, whole(answer) / 2)) +
          answer * headFlops(config)),
    );
    return {
      name,
      conversations: count,
      sampled: none,
      read: range(lengths, (answer) => count * whole(answer)),
      flops: { decode: none, forward: none, training: none, [kind]: flops },
    };
  };
  const parts = [
    generation("training: rollouts", train.steps * perStep, train.rolloutsPerPrompt, trained),
    scoring(
      "training: updates",
      train.steps * train.updatesPerBatch * perStep,
      trained,
      "training",
      trainingShare(batch.recompute),
    ),
    generation("training: evaluations", evaluations(settings) * evaluate.episodes, 1, evaluated),
    generation("landscape: the checkpoints' completions", steps.length * ofReference, reference.rollouts, swept),
    generation("landscape: rollouts", cells * rollouts.prompts * rollouts.rollouts, rollouts.rollouts, swept),
    scoring("landscape: scoring", (cells + steps.length) * ofReference, swept, "forward", 1),
  ];
  return {
    parts: parts.filter(
      ({ name, conversations }) =>
        conversations > 0 && !(settings.checkpoints.length > 0 && name.startsWith("training")),
    ),
    lengths: { train: trained, landscape: swept },
    knowsRight: trained.knowsRight,
  };
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
