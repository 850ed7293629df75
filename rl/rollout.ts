// Rolling out: a policy answers an environment's episodes, over as many turns as each asks for. The sampled ids are kept
// as they were drawn, with a mask over what the assistant said; text is made from them for the environment alone.
//
// An environment that throws costs its rollout only: reward 0, with the cause kept beside it.
import { asError } from "../engine/host/index.ts";
import { tokenKey, wordsOf } from "../engine/index.ts";
import {
  type Answer,
  type Chat,
  type Dialogue,
  type GlueOptions,
  generate,
  type Message,
  type Model,
} from "../model/index.ts";
import { type Episode, type Reward, scoreEpisode } from "./environments/environment.ts";

export interface RolloutSettings {
  /** Of one answer. */
  maxNewTokens: number;
  temperature: number;
  /** Seed, purpose and step name the sampling noise (docs/definitions.md, "Random numbers"). */
  seed: number;
  purpose: "train" | "evaluate" | "landscape";
  /** The training step for `train`, else 0. */
  step: number;
  turn2Template: NonNullable<GlueOptions["turn2Template"]>;
  maxRows: number;
  maxTokens: number;
  signal?: AbortSignal;
  /** Called after each pass of the model with the number of rollouts that ended in it. */
  onProgress?: (finished: number) => void;
}

/** How long its answers may be, and how its turns are put together. */
type ConversationSettings = Pick<RolloutSettings, "maxNewTokens" | "turn2Template">;

/** What to roll out: an episode, which of its rollouts, and with which grid point's weights. */
export interface RolloutRequest {
  episode: Episode;
  rollout: number;
  point?: number;
}

export interface Rollout {
  /** The episode's position in its environment's list. */
  readonly episode: number;
  readonly rollout: number;
  readonly point: number;
  readonly messages: readonly Message[];
  /** The whole conversation's tokens. */
  readonly ids: readonly number[]; // [T]
  /** 1 on what the assistant said, end tokens included. */
  readonly mask: readonly number[]; // [T]
  /** The sampler's log-probabilities where the mask is 1, else 0. f32. */
  readonly logProbs: readonly number[]; // [T]
  /** Sum over the assistant's tokens of the entropy each was drawn from, nats. */
  readonly entropySum: number;
  /** The assistant's tokens. */
  readonly tokens: number;
  /** Some answer was cut off. */
  readonly isTruncated: boolean;
  readonly reward: number;
  readonly parts: Reward["parts"];
  /** What the environment threw, or null. */
  readonly failure: string | null;
}

/** Rolls out every request; the result is in their order. */
export async function rollOut(
  model: Model,
  chat: Chat,
  requests: readonly RolloutRequest[],
  settings: RolloutSettings,
): Promise<Rollout[]> {
  const { signal, onProgress } = settings;
  const runs = dialoguesOf(chat, requests, settings);
  await generate(model, runs, {
    maxNewTokens: settings.maxNewTokens,
    temperature: settings.temperature,
    noiseKey: tokenKey(settings.seed, settings.purpose, settings.step),
    stopIds: stopIdsOf(model, chat),
    maxRows: settings.maxRows,
    maxTokens: settings.maxTokens,
    signal,
    onPass: ({ finished }) => onProgress?.(finished),
  });
  return runs.map((run) => run.result());
}

/** The conversations to be had, for `generate`. */
export function dialoguesOf(
  chat: Chat,
  requests: readonly RolloutRequest[],
  settings: ConversationSettings,
): RolloutRun[] {
  return requests.map((request) => new RolloutRun(request, chat, settings));
}

/** The chat's end token ends an answer, and so does what the model folder names. */
function stopIdsOf(model: Model, chat: Chat): number[] {
  return [...new Set([chat.endTokenId, ...model.config.eosTokenIds])];
}

class RolloutRun implements Dialogue {
  readonly point: number;
  readonly prompt: readonly number[];
  readonly noise: { readonly rollout: number; readonly prompt: number };
  readonly expectedTokens: number;
  readonly #request: RolloutRequest;
  readonly #chat: Chat;
  readonly #settings: ConversationSettings;
  readonly #messages: Message[];
  readonly #ids: number[];
  readonly #mask: number[];
  readonly #logProbs: number[];
  readonly #completions: string[] = [];
  #entropySum = 0;
  #isTruncated = false;
  #failure: string | null = null;

  constructor(request: RolloutRequest, chat: Chat, settings: ConversationSettings) {
    this.#request = request;
    this.#chat = chat;
    this.#settings = settings;
    this.point = request.point ?? 0;
    this.#messages = [{ role: "user", content: request.episode.prompt }];
    this.prompt = chat.promptIds(this.#messages);
    this.noise = { rollout: request.rollout, prompt: wordsOf(request.episode.prompt)[0] };
    this.#ids = [...this.prompt];
    this.#mask = this.#ids.map(() => 0);
    this.#logProbs = this.#ids.map(() => 0);
    this.expectedTokens = settings.maxNewTokens * request.episode.turns + followUpTokens(request.episode, chat);
  }

  answered(answer: Answer): readonly number[] | null {
    this.#append(answer.ids, 1, answer.logProbs);
    for (const entropy of answer.entropies) this.#entropySum += entropy;
    this.#isTruncated ||= answer.isTruncated;
    const content = this.#chat.tokenizer.decode(answer.ids, { skipSpecialTokens: true });
    const earlier = [...this.#messages];
    this.#messages.push({ role: "assistant", content });
    this.#completions.push(content);
    try {
      const next = this.#request.episode.nextUserTurn(this.#messages);
      if (next === null) return null;
      const message: Message = { role: "user", content: next };
      const glue = this.#chat.glue(earlier, answer.ids, [message], { turn2Template: this.#settings.turn2Template });
      this.#messages.push(message);
      this.#append(glue, 0);
      return glue;
    } catch (error) {
      this.#failure = asError(error).message;
      return null;
    }
  }

  #append(ids: readonly number[], bit: 0 | 1, logProbs?: readonly number[]): void {
    ids.forEach((id, i) => {
      this.#ids.push(id);
      this.#mask.push(bit);
      this.#logProbs.push(logProbs?.[i] ?? 0);
    });
  }

  result(): Rollout {
    const { episode, rollout } = this.#request;
    let verdict: Reward | null = null;
    if (this.#failure === null)
      try {
        verdict = scoreEpisode(episode, this.#completions);
      } catch (error) {
        this.#failure = asError(error).message;
      }
    const everyTurn = Array.from({ length: episode.turns }, () => 0);
    return {
      episode: episode.index,
      rollout,
      point: this.point,
      messages: this.#messages,
      ids: this.#ids,
      mask: this.#mask,
      logProbs: this.#logProbs,
      entropySum: this.#entropySum,
      tokens: this.#mask.reduce((sum, bit) => sum + bit, 0),
      isTruncated: this.#isTruncated,
      reward: verdict?.reward ?? 0,
      parts: verdict?.parts ?? { turnScores: everyTurn, formatFailed: everyTurn.map(() => true) },
      failure: this.#failure,
    };
  }
}

/** Tokens of the user's later turns as far as they can be told beforehand: what an episode asks after empty answers. */
function followUpTokens(episode: Episode, chat: Chat): number {
  const messages: Message[] = [{ role: "user", content: episode.prompt }];
  let tokens = 0;
  try {
    for (let turn = 1; turn < episode.turns; turn++) {
      const earlier = [...messages];
      messages.push({ role: "assistant", content: "" });
      const next = episode.nextUserTurn(messages);
      if (next === null) break;
      const message: Message = { role: "user", content: next };
      tokens += chat.glue(earlier, [], [message]).length;
      messages.push(message);
    }
  } catch {
    // Whatever an episode throws at empty answers is met again, and recorded, when it is rolled out.
  }
  return tokens;
}
