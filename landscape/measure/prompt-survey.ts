// One pass over a prompt set, which keeps what plans and caches need: totals, and as many prompts as a batch has rows. The
// prompts themselves may be hundreds of thousands.
import { Pauses } from "../../engine/host/index.ts";
import type { Chat, Dialogue, DialogueBounds } from "../../model/index.ts";
import { type Episode, type ExpectedConversation, expectedConversation, openingOf } from "../../rl/index.ts";

export type SurveyedPrompt = Pick<Dialogue, "noise"> & ExpectedConversation;

export interface PromptSurvey {
  readonly prompts: number;
  /** The largest, and the sum over all prompts. */
  readonly expectedTokens: { readonly largest: number; readonly sum: number };
  /** Tokens of all prompts together. */
  readonly promptTokens: number;
  /** The longest prompts, longest first, equal ones in their order; one per row of a batch. */
  readonly longest: readonly SurveyedPrompt[];
  /** The first prompts; with their answers they fill a forward pass. */
  readonly first: readonly SurveyedPrompt[];
}

interface SurveySettings {
  readonly maxNewTokens: number;
  readonly maxRows: number;
  readonly maxTokens: number;
  readonly signal?: AbortSignal;
}

/** @throws the signal's reason once it is aborted */
export async function surveyPrompts(
  chat: Chat,
  episodes: readonly Episode[],
  { maxNewTokens, maxRows, maxTokens, signal }: SurveySettings,
): Promise<PromptSurvey> {
  const pauses = new Pauses(signal);
  const longest: SurveyedPrompt[] = [];
  const first: SurveyedPrompt[] = [];
  let firstTokens = 0;
  let promptTokens = 0;
  const expected = { largest: 0, sum: 0 };
  for (const episode of episodes) {
    const expectation = expectedConversation(episode, chat, maxNewTokens);
    const { prompt, expectedTokens } = expectation;
    const surveyed = { ...expectation, noise: { rollout: 0, prompt: openingOf(episode, chat).noiseWord } };
    promptTokens += prompt.length;
    expected.largest = Math.max(expected.largest, expectedTokens);
    expected.sum += expectedTokens;
    if (firstTokens <= maxTokens) first.push(surveyed);
    firstTokens += prompt.length + expectedTokens;
    keepLongest(longest, surveyed, maxRows);
    if (pauses.isDue) await pauses.take();
  }
  return { prompts: episodes.length, expectedTokens: expected, promptTokens, longest, first };
}

/** Inserts a prompt behind those that are as long or longer, and drops the last one if there are too many. */
function keepLongest(longest: SurveyedPrompt[], surveyed: SurveyedPrompt, most: number): void {
  const { length } = surveyed.prompt;
  if (longest.length >= most && longest[longest.length - 1].prompt.length >= length) return;
  let low = 0;
  let high = longest.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (longest[middle].prompt.length < length) high = middle;
    else low = middle + 1;
  }
  longest.splice(low, 0, surveyed);
  if (longest.length > most) longest.pop();
}

/** Slots for the completions of all surveyed prompts as texts, as long as they are expected to be at most. */
export function textSlots(
  { prompts, promptTokens, expectedTokens }: PromptSurvey,
  perPrompt: number,
  maxTokens: number,
): { readonly slots: number; readonly longest: number } {
  const all = perPrompt * (promptTokens + prompts * expectedTokens.largest);
  const longest = expectedTokens.largest + 1;
  return { slots: Math.min(all, Math.max(maxTokens, longest)), longest };
}

/** The bounds of all rollouts of the surveyed prompts at some grid points, for `generate`. */
export function boundsAtPoints(
  { prompts, expectedTokens, longest }: PromptSurvey,
  rolloutsPerPrompt: number,
  points: number,
  rows: number,
): DialogueBounds {
  return {
    count: prompts * rolloutsPerPrompt * points,
    expectedTokens: expectedTokens.largest,
    promptLengths: longest
      .slice(0, Math.ceil(rows / points))
      .flatMap(({ prompt }) => new Array<number>(points).fill(prompt.length))
      .slice(0, rows),
  };
}
