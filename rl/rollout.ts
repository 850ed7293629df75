// Rollouts: a policy answers the episodes of an environment, over as many turns as each episode asks for. The sampled
// ids are kept as they were drawn, with a mask over the assistant's tokens. They are decoded to text only for the
// environment.
//
// If an environment throws or exceeds its time limit, only that rollout is affected: the error message is stored with it,
// and training leaves it out (rl/step-batch.ts). Many failures stop the run (rl/environments/limits.ts).
import { asError } from "../engine/host/index.ts";
import { tokenKey, type Warping } from "../engine/index.ts";
import {
  type Answer,
  type Chat,
  type ChatMessage,
  type Dialogue,
  type DialogueBounds,
  type GenerateSettings,
  type GlueOptions,
  generate,
  type Model,
  type Text,
} from "../model/index.ts";
import {
  type Episode,
  type EpisodeList,
  openingMessages,
  type RewardParts,
  turnsOf,
} from "./environments/environment.ts";
import {
  type EnvironmentLimits,
  expectFewFailures,
  Judge,
  type Judged,
  limitedCall,
  usualLimits,
} from "./environments/limits.ts";
import { shown } from "./environments/user-values.ts";
import { boundsOfRollouts, expectedConversation, openingOf } from "./openings.ts";

export interface RolloutSettings {
  /** Maximum tokens per answer. */
  maxNewTokens: number;
  temperature: number;
  /** Top-k and top-p. Default: none. Log-probabilities and entropies are those of the whole distribution. */
  warping?: Warping;
  /** Seed, purpose and step determine the sampling noise (docs/definitions.md, "Random numbers"). */
  seed: number;
  purpose: "train" | "evaluate" | "landscape";
  /** The training step for `train`; the number of the noise seed for `landscape`, 0 for all but the noise floor; else 0. */
  step: number;
  turn2Template: NonNullable<GlueOptions["turn2Template"]>;
  maxRows: number;
  maxTokens: number;
  /** Of the environment. Default: those of the settings' defaults. */
  limits?: EnvironmentLimits;
  signal?: AbortSignal;
  /** Called after each pass of the model, with the numbers of tokens computed, tokens sampled and rollouts finished. */
  onPass?: GenerateSettings["onPass"];
  /**
   * Called between two passes of the model, and waited for. It may compute, and let a list of requests go on.
   * @param isIdle  whether no conversation is under way, and none comes now
   * @returns whether it has done anything
   */
  between?: (isIdle: boolean) => Promise<boolean>;
  /** Takes the states of texts that are read beside the rollouts. */
  onStates?: GenerateSettings["onStates"];
}

/** The maximum length of answers, and how the turns of a conversation are joined. */
type ConversationSettings = Pick<RolloutSettings, "maxNewTokens" | "turn2Template" | "limits">;

/** A rollout request: the episode, the number of the rollout, and the grid point whose weights are used. */
export interface RolloutRequest {
  episode: Episode;
  rollout: number;
  point?: number;
  /** The number of this copy of the prompt, from 0: copies get different noise. */
  copy?: number;
  /**
   * Proposes the next ids of an answer, given the answers before it and its ids so far (`Dialogue.draft`). It changes no
   * bit of the rollout.
   */
  draft?: (earlier: readonly (readonly number[])[], answer: readonly number[]) => readonly number[] | null;
}

export interface Rollout {
  /** The position of the episode in the environment's list. */
  readonly episode: number;
  readonly rollout: number;
  readonly point: number;
  readonly messages: readonly ChatMessage[];
  /** The whole conversation's tokens. */
  readonly ids: readonly number[]; // [T]
  /** 1 on the assistant's tokens, end tokens included. */
  readonly mask: readonly number[]; // [T]
  /** The sampler's log-probability of each token with mask 1, else 0. f32. */
  readonly logProbs: readonly number[]; // [T]
  /** Sum over the assistant's tokens of the entropy of the distribution that each was drawn from, nats. */
  readonly entropySum: number;
  /** Number of the assistant's tokens. */
  readonly tokens: number;
  /** Whether any answer was cut off. */
  readonly isTruncated: boolean;
  /** Whether the last answer was cut off. */
  readonly isLastTruncated: boolean;
  /** 0 if the environment failed; such a rollout has no reward, and means leave it out. */
  readonly reward: number;
  /** What the environment tells about the reward; empty if it tells nothing. */
  readonly parts: RewardParts;
  /** Why the environment did not score it: the message of its error, or that it was too slow. Null: it did. */
  readonly failure: string | null;
}

/** Rolls out every request. The results are in the order of the requests. */
export async function rollOut(
  model: Model,
  chat: Chat,
  requests: readonly RolloutRequest[],
  settings: RolloutSettings,
): Promise<Rollout[]> {
  const rollouts = new Array<Rollout>(requests.length);
  expectTurnsOf(chat, requests, settings);
  const bounds = await boundsOfRollouts(chat, requests, settings);
  const numbered = function* (): Iterable<RolloutRequest & { index: number }> {
    for (const [index, request] of requests.entries()) yield { ...request, index };
  };
  await rollOutEach(model, chat, numbered(), bounds, settings, (rollout, { index }) => {
    rollouts[index] = rollout;
  });
  return rollouts;
}

/**
 * Rolls out requests that are made on demand, and keeps none: memory is needed for the rollouts under way alone.
 * @param bounds  of all requests (`boundsOfRollouts`). The chat template must be able to join their turns
 *                (`expectTemplate`)
 * @param requests  and texts, which are read beside the rollouts; null: none now; it is asked again after `settings.between`
 * @param take    called when a rollout has ended
 */
export async function rollOutEach<R extends RolloutRequest>(
  model: Model,
  chat: Chat,
  requests: Iterable<R | Text | null>,
  bounds: DialogueBounds,
  settings: RolloutSettings,
  take: (rollout: Rollout, request: R) => void,
): Promise<void> {
  const limits = settings.limits ?? usualLimits;
  const judge = new Judge(limits);
  const failures: string[] = [];
  let ended = 0;
  const finish = (rollout: Rollout, request: R): void => {
    ended++;
    if (rollout.failure !== null) failures.push(rollout.failure);
    take(rollout, request);
  };
  const scoring = new Set<Promise<void>>();
  let broken: { readonly thrown: unknown } | null = null;
  const runs = function* (): Iterable<RolloutRun | Text | null> {
    for (const request of requests) {
      if (request === null || "wanted" in request) {
        yield request;
        continue;
      }
      const run = new RolloutRun(request, chat, settings);
      run.onEnd = () => {
        const judged = run.judge(judge);
        if (!(judged instanceof Promise)) return finish(run.result(judged), request);
        const done: Promise<void> = judged
          .then((found) => finish(run.result(found), request))
          .catch((thrown) => {
            broken ??= { thrown };
          })
          .finally(() => scoring.delete(done));
        scoring.add(done);
      };
      yield run;
    }
  };
  await generate(model, runs(), {
    maxNewTokens: settings.maxNewTokens,
    temperature: settings.temperature,
    warping: settings.warping,
    noiseKey: tokenKey(settings.seed, settings.purpose, settings.step),
    stopIds: stopIdsOf(model, chat),
    maxRows: settings.maxRows,
    maxTokens: settings.maxTokens,
    bounds,
    signal: settings.signal,
    onPass: settings.onPass,
    ...(settings.onStates !== undefined && { onStates: settings.onStates }),
    between: async (isIdle) => {
      // Nothing else goes on: what comes next may depend on a verdict.
      const isJudged = isIdle && scoring.size > 0;
      if (isJudged) await waitFor(Promise.race(scoring), settings.signal);
      if (broken !== null) throw (broken as { readonly thrown: unknown }).thrown;
      return ((await settings.between?.(isIdle && scoring.size === 0)) ?? false) || isJudged;
    },
  });
  settings.signal?.throwIfAborted();
  if (scoring.size > 0) await waitFor(Promise.all(scoring), settings.signal);
  if (broken !== null) throw (broken as { readonly thrown: unknown }).thrown;
  expectFewFailures(failures, ended, limits);
}

/** Waits for scorers that are under way. @throws the signal's reason once it is aborted */
async function waitFor(scorers: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  let stop = (): void => {};
  const stopped = new Promise<void>((done) => {
    stop = done;
  });
  signal?.addEventListener("abort", stop, { once: true });
  await Promise.race([scorers, stopped]);
  signal?.removeEventListener("abort", stop);
  signal?.throwIfAborted();
}

/**
 * The conversations as dialogues for `generate`.
 * @throws CheckpointError when the chat template cannot join their turns
 */
export function dialoguesOf(
  chat: Chat,
  requests: readonly RolloutRequest[],
  settings: ConversationSettings,
): RolloutRun[] {
  expectTurnsOf(chat, requests, settings);
  return requests.map((request) => new RolloutRun(request, chat, settings));
}

// Checked before the rollouts, because during one the error would count as a failure of the environment and set the
// reward to 0.
function expectTurnsOf(chat: Chat, requests: readonly RolloutRequest[], settings: ConversationSettings): void {
  expectTemplate(
    chat,
    requests.map(({ episode }) => episode),
    settings.turn2Template,
  );
}

/** Maximum number of rollouts per group. */
export const copyStride = 65_536;

/** The word of the noise counter for a rollout. Each copy of a prompt has a separate range of 65,536 numbers. */
export function noiseRollout({ rollout, copy = 0 }: Pick<RolloutRequest, "rollout" | "copy">): number {
  return (rollout + copyStride * copy) >>> 0;
}

/**
 * The requests of a step, the rollouts of a group together. A prompt that occurs more than once in the step (because a
 * finite list began again, or rows are equal) gets different noise each time: its copy number is the pass over the
 * list, or the next number that the step has not used for this prompt.
 */
export function trainingRollouts(
  episodes: EpisodeList,
  step: number,
  promptsPerStep: number,
  rolloutsPerPrompt: number,
): RolloutRequest[] {
  return requestsFrom(episodes, (step - 1) * promptsPerStep, promptsPerStep, rolloutsPerPrompt, new Map());
}

/**
 * The requests of `count` prompts from a position of the list on. @param used  the copy numbers that the step has used for
 * each prompt, which this adds to
 */
export function requestsFrom(
  episodes: EpisodeList,
  first: number,
  count: number,
  rolloutsPerPrompt: number,
  used: Map<string, Set<number>>,
): RolloutRequest[] {
  return Array.from({ length: count }, (_, i) => first + i).flatMap((position) => {
    const episode = episodes.at(position);
    const taken = used.get(episode.prompt) ?? new Set();
    let copy = episodes.pass(position);
    while (taken.has(copy)) copy++;
    used.set(episode.prompt, taken.add(copy));
    return Array.from({ length: rolloutsPerPrompt }, (__, rollout) => ({ episode, rollout, copy }));
  });
}

/**
 * Refuses a chat template that cannot join the turns of these episodes.
 * @throws CheckpointError describing the problem with the template
 */
export function expectTemplate(
  chat: Chat,
  episodes: readonly Pick<Episode, "turns">[],
  turn2Template: RolloutSettings["turn2Template"],
): void {
  chat.expectTurns(
    episodes.reduce((most, episode) => Math.max(most, turnsOf(episode)), 1),
    { turn2Template },
  );
}

/** The tokens that end an answer: the chat template's end token, and those that the model folder names. */
export function stopIdsOf(model: Pick<Model, "config">, chat: Chat): number[] {
  return [...new Set([chat.endTokenId, ...model.config.eosTokenIds])];
}

class RolloutRun implements Dialogue {
  readonly policy: number;
  readonly prompt: readonly number[];
  readonly noise: { readonly rollout: number; readonly prompt: number };
  readonly expectedTokens: number;
  /** Estimated tokens of a later user turn, for memory plans. */
  readonly nextTurnTokens: number;
  readonly draft: Dialogue["draft"];
  readonly #request: RolloutRequest;
  readonly #chat: Chat;
  readonly #settings: ConversationSettings;
  readonly #messages: ChatMessage[];
  readonly #ids: number[];
  readonly #mask: number[];
  readonly #logProbs: number[];
  readonly #completions: string[] = [];
  readonly #answers: (readonly number[])[] = [];
  #entropySum = 0;
  #isTruncated = false;
  #isLastTruncated = false;
  #failure: string | null = null;

  constructor(request: RolloutRequest, chat: Chat, settings: ConversationSettings) {
    this.#request = request;
    this.#chat = chat;
    this.#settings = settings;
    this.policy = request.point ?? 0;
    this.#messages = openingMessages(request.episode);
    const { prompt, noiseWord } = openingOf(request.episode, chat);
    this.prompt = prompt;
    this.noise = { rollout: noiseRollout(request), prompt: noiseWord };
    this.#ids = [...this.prompt];
    this.#mask = this.#ids.map(() => 0);
    this.#logProbs = this.#ids.map(() => 0);
    const expected = expectedConversation(request.episode, chat, settings.maxNewTokens);
    this.expectedTokens = expected.expectedTokens;
    this.nextTurnTokens = expected.nextTurnTokens;
    const { draft } = request;
    this.draft = draft && ((_, answer) => draft(this.#answers, answer));
  }

  /** Called when the rollout has ended. */
  onEnd: (() => void) | null = null;

  answered(answer: Answer): readonly number[] | null | Promise<readonly number[] | null> {
    const end = (next: readonly number[] | null): readonly number[] | null => {
      if (next === null) this.onEnd?.();
      return next;
    };
    const next = this.#take(answer);
    return next instanceof Promise ? next.then(end) : end(next);
  }

  #take(answer: Answer): readonly number[] | null | Promise<readonly number[] | null> {
    this.#append(answer.ids, 1, answer.logProbs);
    this.#answers.push(answer.ids);
    for (const entropy of answer.entropies) this.#entropySum += entropy;
    this.#isTruncated ||= answer.isTruncated;
    this.#isLastTruncated = answer.isTruncated;
    const content = this.#chat.tokenizer.decode(answer.ids, { skipSpecialTokens: true });
    const earlier = [...this.#messages];
    this.#messages.push({ role: "assistant", content });
    this.#completions.push(content);
    const fail = (thrown: unknown): null => {
      this.#failure = asError(thrown).message || "unnamed error";
      return null;
    };
    const begin = (next: string | null): readonly number[] | null => {
      if (next === null) return null;
      const message: ChatMessage = { role: "user", content: next };
      const glue = this.#chat.glue(earlier, answer.ids, [message], { turn2Template: this.#settings.turn2Template });
      this.#messages.push(message);
      this.#append(glue, 0);
      return glue;
    };
    try {
      const next = this.#nextUserTurn();
      return next instanceof Promise ? next.then(begin).catch(fail) : begin(next);
    } catch (thrown) {
      return fail(thrown);
    }
  }

  #nextUserTurn(): string | null | Promise<string | null> {
    const { episode } = this.#request;
    if (episode.nextUserTurn === undefined) return null;
    const { timeLimit } = this.#settings.limits ?? usualLimits;
    // Copies: the environment may do with them what it likes, and the conversation stays as it was.
    const said = this.#messages.filter(({ role }) => role !== "system").map((message) => ({ ...message }));
    const next = limitedCall(
      timeLimit,
      "nextUserTurn",
      (signal) => episode.nextUserTurn?.(said, signal) ?? null,
      episode.isBounded,
    );
    return next instanceof Promise ? next.then((one) => this.#turnOf(one)) : this.#turnOf(next);
  }

  /**
   * A module in JavaScript may return anything.
   * @throws Error unless it is a text where one may come, or null (or undefined) for the end
   */
  #turnOf(next: unknown): string | null {
    if (next === null || next === undefined) return null;
    if (typeof next !== "string") throw new Error(`nextUserTurn: expected a text or null, got ${shown(next)}`);
    const turns = turnsOf(this.#request.episode);
    if (this.#completions.length < turns) return next;
    throw new Error(
      `nextUserTurn: expected null after answer ${this.#completions.length}, since the episode has turns ${turns}, got ` +
        `${shown(next)}. Return null there, or declare as many turns as a conversation can have`,
    );
  }

  #append(ids: readonly number[], bit: 0 | 1, logProbs?: readonly number[]): void {
    ids.forEach((id, i) => {
      this.#ids.push(id);
      this.#mask.push(bit);
      this.#logProbs.push(logProbs?.[i] ?? 0);
    });
  }

  /** The environment's verdict on the conversation, which has ended. */
  judge(judge: Judge): Judged | Promise<Judged> {
    if (this.#failure !== null) return { verdict: null, failure: this.#failure };
    return judge.judge(this.#request.episode, this.#completions);
  }

  result({ verdict, failure }: Judged): Rollout {
    const { episode, rollout } = this.#request;
    return {
      episode: episode.index,
      rollout,
      point: this.policy,
      messages: this.#messages,
      ids: this.#ids,
      mask: this.#mask,
      logProbs: this.#logProbs,
      entropySum: this.#entropySum,
      tokens: this.#mask.reduce((sum, bit) => sum + bit, 0),
      isTruncated: this.#isTruncated,
      isLastTruncated: this.#isLastTruncated,
      reward: verdict?.reward ?? 0,
      parts: verdict?.parts ?? {},
      failure,
    };
  }
}
