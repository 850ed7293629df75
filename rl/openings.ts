// What is known of a rollout before its first answer: the prompt's ids, its noise word, and about how many tokens follow.
// All rollouts of an episode have the same, at every grid point. To compute it, the chat template is run for each turn,
// so the latest openings are kept; their number is bounded.
import { Pauses } from "../engine/host/index.ts";
import { wordsOf } from "../engine/index.ts";
import { BoundsCollector, type Chat, type ChatMessage, type DialogueBounds } from "../model/index.ts";
import { type Episode, openingMessages, turnsOf } from "./environments/environment.ts";
import { usualLimits, within } from "./environments/limits.ts";

export interface Opening {
  readonly prompt: readonly number[];
  /** The word of the noise counter for the prompt. */
  readonly noiseWord: number;
  /** Estimated tokens of the later user turns. */
  readonly followUpTokens: number;
}

/** How many openings are kept per chat. */
const mostKept = 4096;
const openings = new WeakMap<Chat, Map<Episode, Opening>>();

/** The opening of an episode. An episode holds no state, so it is computed once while it is kept. */
export function openingOf(episode: Episode, chat: Chat): Opening {
  const kept = openings.get(chat) ?? new Map<Episode, Opening>();
  openings.set(chat, kept);
  const found = kept.get(episode);
  if (found !== undefined) return found;
  const prompt = chat.promptIds(openingMessages(episode));
  const opening = {
    prompt,
    noiseWord: wordsOf(episode.prompt)[0],
    followUpTokens: followUpTokens(episode, chat, prompt.length),
  };
  for (const oldest of kept.keys()) {
    if (kept.size < mostKept) break;
    kept.delete(oldest);
  }
  kept.set(episode, opening);
  return opening;
}

/**
 * Estimates the tokens of later user turns: those of the messages that the episode sends after empty answers. Turns that are
 * promised are not waited for, and count as long as the prompt; an async function is not even asked, since that may cost a
 * request to a server.
 */
function followUpTokens(episode: Episode, chat: Chat, promptTokens: number): number {
  const { nextUserTurn } = episode;
  if (nextUserTurn === undefined) return 0;
  if (nextUserTurn.constructor.name === "AsyncFunction") return (turnsOf(episode) - 1) * promptTokens;
  const messages = openingMessages(episode);
  let tokens = 0;
  try {
    for (let turn = 1; turn < turnsOf(episode); turn++) {
      const earlier = [...messages];
      messages.push({ role: "assistant", content: "" });
      const said = messages.filter(({ role }) => role !== "system").map((message) => ({ ...message }));
      const ask = (): ReturnType<typeof nextUserTurn> => nextUserTurn.call(episode, said);
      const next = within(usualLimits.timeLimit, "nextUserTurn", ask, episode.isBounded);
      if (next === null) break;
      if (typeof next !== "string") {
        Promise.resolve(next).catch(() => {}); // it fails again in the rollout, and is recorded there
        return tokens + (turnsOf(episode) - turn) * promptTokens;
      }
      const message: ChatMessage = { role: "user", content: next };
      tokens += chat.glue(earlier, [], [message]).length;
      messages.push(message);
    }
  } catch {
    // If an episode throws on empty answers, the error occurs again in the rollout and is recorded there.
  }
  return tokens;
}

/** Expected number of tokens after the prompt, over all turns. */
export const expectedTokensOf = (episode: Episode, chat: Chat, maxNewTokens: number): number =>
  maxNewTokens * turnsOf(episode) + openingOf(episode, chat).followUpTokens;

/** A prompt, the expected tokens after it, and how many of those are later user turns. */
export interface ExpectedConversation {
  readonly prompt: readonly number[];
  readonly expectedTokens: number;
  readonly followUpTokens: number;
  /** The mean of one later user turn, rounded up; 0 if there is none. */
  readonly nextTurnTokens: number;
}

/** What is expected of an episode's conversations. */
export function expectedConversation(episode: Episode, chat: Chat, maxNewTokens: number): ExpectedConversation {
  const { prompt, followUpTokens } = openingOf(episode, chat);
  const nextTurnTokens = Math.ceil(followUpTokens / Math.max(1, turnsOf(episode) - 1));
  const expectedTokens = expectedTokensOf(episode, chat, maxNewTokens);
  return { prompt, followUpTokens, nextTurnTokens, expectedTokens };
}

/**
 * What to say if conversations can be longer than the model was made for; null if they cannot. Rotary angles exist for every
 * position, so beyond that number nothing fails: the model only says what nobody trained it to say.
 * @param cure  the settings that shorten them
 */
export function positionsNote(
  episodes: readonly Episode[],
  chat: Chat,
  { maxNewTokens, positions, cure }: { maxNewTokens: number; positions: number; cure: string },
): string | null {
  const longest = episodes.reduce((most, episode) => {
    const { prompt, expectedTokens } = expectedConversation(episode, chat, maxNewTokens);
    return Math.max(most, prompt.length + expectedTokens);
  }, 0);
  if (longest <= positions) return null;
  return (
    `Conversations of up to ${longest} tokens, if every answer has ${maxNewTokens}: the model was made for ${positions} positions at most ` +
    `(max_position_embeddings), and what it says after them is seldom sensible. Shorter ones: ${cure}.`
  );
}

/**
 * A conversation whose answers have the maximum length, for memory plans: the prompt, which all rollouts of a group share, an
 * answer, the later user turns, and the other answers.
 * @param filler  the token that it holds after the prompt: with different ones no two answers begin alike
 * @returns its tokens, and a mask of those of the answers
 */
export function longestConversation(
  { prompt, expectedTokens, followUpTokens }: Omit<ExpectedConversation, "nextTurnTokens">,
  maxNewTokens: number,
  filler: number,
): { readonly ids: number[]; readonly mask: number[]; readonly answerTokens: number } {
  const answerTokens = expectedTokens - followUpTokens;
  const first = Math.min(maxNewTokens, answerTokens);
  const runs = [
    [prompt.length, 0],
    [first, 1],
    [followUpTokens, 0],
    [answerTokens - first, 1],
  ] as const;
  return {
    ids: [...prompt, ...new Array<number>(expectedTokens).fill(filler)],
    mask: runs.flatMap(([count, isAnswer]) => new Array<number>(count).fill(isAnswer)),
    answerTokens,
  };
}

/**
 * The bounds of the rollouts of some requests, for `generate`.
 * @param rows  maximum rollouts in the batch at a time
 * @throws the signal's reason once it is aborted
 */
export async function boundsOfRollouts(
  chat: Chat,
  requests: Iterable<{ readonly episode: Episode; readonly point?: number }>,
  { maxNewTokens, maxRows, signal }: { maxNewTokens: number; maxRows: number; signal?: AbortSignal },
): Promise<DialogueBounds> {
  const collected = new BoundsCollector(maxRows);
  const pauses = new Pauses(signal);
  for (const { episode, point } of requests) {
    const { prompt } = openingOf(episode, chat);
    collected.add({ policy: point ?? 0, prompt, expectedTokens: expectedTokensOf(episode, chat, maxNewTokens) });
    if (pauses.isDue) await pauses.take();
  }
  return collected.bounds();
}
