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

/**
 * A text that a generation reads beside its dialogues: the states after some of its tokens are handed over
 * (`GenerateSettings.onStates`). Tokens that it has in common with dialogues of its policy in the same pass are computed once.
 */
export interface Text {
  readonly policy: number;
  /** Its beginning, at least one token: a prompt that dialogues share. */
  readonly prompt: ArrayLike<number>;
  /** The ids after it. */
  readonly ids: ArrayLike<number>;
  /** The places of tokens after which the state is wanted, ascending: 0 is the prompt's last token, k the k-th after it. */
  readonly wanted: readonly number[];
  /**
   * Places after which reading goes on in the next pass, ascending. A dialogue goes on there after an answer whose draft was
   * right: so the tokens of its next turn are in the same pass as the text's. Default: none
   */
  readonly pauses?: readonly number[];
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
