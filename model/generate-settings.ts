// What generation is given (generation.ts), and what it tells about each of its passes.
import type { Backend, LogitsReader, NumberArray, RowGroup, Tensor, Warping, Weights } from "../engine/index.ts";
import type { Text } from "./dialogue.ts";
import type { DialogueBounds } from "./dialogue-bounds.ts";
import type { LanguageModel } from "./language-model.ts";
import type { Sharing } from "./pass-tokens.ts";

export interface Model {
  readonly backend: Backend;
  readonly config: LanguageModel;
  readonly weights: Weights;
}

export interface GenerateSettings {
  /** Maximum tokens per answer. */
  maxNewTokens: number;
  /** Sampling temperature; 0 is greedy. */
  temperature: number;
  /** Repetition penalty (over prompt and all turns), top-k and top-p. Default: none. */
  warping?: Warping;
  /** Philox key of the sampling noise. */
  noiseKey: readonly [number, number];
  /** Tokens that end an answer; empty to continue to maxNewTokens. */
  stopIds: readonly number[];
  /** Maximum dialogues in the batch at a time. */
  maxRows: number;
  /** Maximum tokens per pass; a longer prompt runs by itself. */
  maxTokens: number;
  /** The bounds of the dialogues, if the caller knows them. Default: all dialogues are collected first. */
  bounds?: DialogueBounds;
  /**
   * Largest number of decode steps between two reads of sampled tokens. It changes no result. With a repetition penalty
   * it is 1, because the host keeps the set of seen ids. Default: chosen by measured times (steps-per-read.ts).
   */
  stepsPerRead?: number;
  /**
   * Which tokens that several dialogues of a policy have in common up to a place are computed once (pass-tokens.ts). It changes no
   * result. Default: all, where the model can and the cache is in one buffer; between decode steps that are read one by one, and
   * without a repetition penalty.
   */
  sharesTokens?: Sharing;
  /** Gets the states of each pass that reads texts, within the scope of the pass. Needed if there are texts. */
  onStates?: (read: ReadStates) => StatesUse;
  signal?: AbortSignal;
  /**
   * Called before dialogues enter the batch, and waited for. It may compute, and let the iterable have further dialogues.
   * @param isIdle  whether no dialogue is under way, and none comes now
   * @returns whether anything has happened: if not while nothing is under way, there would be no end
   */
  between?: (isIdle: boolean) => Promise<boolean>;
  /**
   * Called after each pass, and for each of several decode steps. `tokens`: computed. `sampled`: drawn and used, so not
   * those after the end of an answer. `drafted`: those of them that a draft proposed. `spared`: those of them that were
   * drawn from a draft's tokens, each of which spares its row a decode step. `rows`: dialogues whose tokens were drawn and
   * used. `places`: dialogues that the batch holds at most: `maxRows`, or all if they are fewer.
   */
  onPass?: (pass: Pass) => void;
}

/** The states that a pass has computed, those for texts among them. */
export interface ReadStates {
  /** Final hidden states, [R, C]: those after tokens that texts or dialogues have in common are there once. */
  readonly hidden: Tensor;
  /** Which policy each row belongs to; null with plain weights. */
  readonly rows: readonly RowGroup[] | null;
  /** The texts of the pass, and the rows of those of their wanted places that it has read: from the `first` of them on. */
  readonly texts: readonly { readonly text: Text; readonly first: number; readonly rowOf: readonly number[] }[];
}

/** What is made of states: tensors that are read with the samples of the pass, and what takes their numbers. */
export interface StatesUse {
  /** Reads the logits of all rows of `hidden`, with which the pass draws its samples too. Its results are taken first. */
  readonly reader?: LogitsReader;
  readonly tensors?: readonly Tensor[];
  take(read: readonly NumberArray[]): void;
}

/** What a forward pass did. */
export interface Pass {
  readonly tokens: number;
  readonly sampled: number;
  readonly finished: number;
  readonly drafted: number;
  readonly spared: number;
  readonly rows: number;
  readonly places: number;
}
