// A dialogue between a policy and whoever writes the other turns, as generation asks for it (generation.ts).
import type { Draft } from "./drafts.ts";

/** The sampled tokens of one turn. */
export interface Answer {
  /** The turn's number, from 0. */
  readonly turn: number;
  /** The sampled ids, with the end token if one was sampled. */
  readonly ids: readonly number[];
  /** Log-probability of each id at the sampling temperature (1 when greedy), f32. */
  readonly logProbs: readonly number[];
  /** Entropy of the distribution that each id was drawn from, in nats, f32. */
  readonly entropies: readonly number[];
  /** True if maxNewTokens was reached before an end token. */
  readonly isTruncated: boolean;
}

/** Tokens to append before the next answer; null: there is none. */
export type NextTurn = ArrayLike<number> | null;

export interface Dialogue {
  /** Which policy answers, if the weights hold several (`RowGroup.point`); 0 with plain weights. */
  readonly policy: number;
  /** The token ids before the first answer. */
  readonly prompt: ArrayLike<number>;
  /** Two words of the noise counter: the rollout and the prompt (docs/definitions.md, "Random numbers"). */
  readonly noise: { readonly rollout: number; readonly prompt: number };
  /**
   * Expected number of tokens after the prompt, over all turns. The cache reserves as many slots; a longer dialogue
   * must be computed again in a longer run of slots.
   */
  readonly expectedTokens: number;
  /**
   * Receives an answer. Returns the tokens to append before the next answer, or null when the dialogue is over; or a promise
   * of either, during which the other dialogues go on. If it rejects, the generation ends with its reason.
   */
  answered(answer: Answer): NextTurn | Promise<NextTurn>;
  /** Called with each token as it is sampled. */
  sampled?(id: number): void;
  /** Proposes the next tokens of an answer. It changes the time that the answer takes, and no bit of it. */
  readonly draft?: Draft | undefined;
}
