// Scoring: log-probability and entropy of given tokens, in packed batches of bounded size.
//
// Scoring, training and sampling compute log-probabilities by the same kernels in the same order. So a sequence gets the same
// numbers in any batch, and scorer and sampler agree to the bit.
import {
  empty,
  fromArray,
  gatherRows,
  head,
  isRecording,
  matrixUnits,
  NumericalError,
  type RowGroup,
  readTensors,
  scopeAsync,
  type Tensor,
} from "../engine/index.ts";
import { type Batch, type DistinctTokens, distinctTokens, packDistinct, repeatedTokens } from "./batch.ts";
import type { Model } from "./generate-settings.ts";
import { notNumbers } from "./generation-pass.ts";
import {
  type ForwardOptions,
  finalStates,
  headWeight,
  type LanguageModel,
  type LayerCaches,
} from "./language-model.ts";

export interface Sequence {
  readonly ids: ArrayLike<number>;
  /** 1 for tokens to score. Token 0 cannot be scored, since nothing precedes it. Default: every token but the first. */
  readonly mask?: ArrayLike<number>;
}

export interface SequenceScores {
  /** log p(ids[t] | ids[..t]) for each scored token, in order. */
  readonly logProbs: Float32Array;
  /** For each scored token, the entropy of the distribution that it is drawn from, nats. */
  readonly entropy: Float32Array;
  readonly logSumExp: Float32Array;
}

/** Positions of the scored tokens. */
export function scoredPositions({ ids, mask }: Sequence): number[] {
  const positions: number[] = [];
  for (let t = 1; t < ids.length; t++) if (mask === undefined || mask[t] === 1) positions.push(t);
  if (mask !== undefined && mask[0] === 1)
    throw new Error("scoredPositions: token 0 has no log-probability, since nothing precedes it");
  return positions;
}

/** Splits a list into batches of at most `maxTokens` tokens, but at least one sequence. */
export function microBatches<S extends { readonly ids: ArrayLike<number> }>(
  sequences: readonly S[],
  maxTokens: number,
): S[][] {
  const batches: S[][] = [];
  let tokens = Number.POSITIVE_INFINITY;
  for (const sequence of sequences) {
    if (tokens + sequence.ids.length > maxTokens) {
      batches.push([]);
      tokens = 0;
    }
    batches[batches.length - 1].push(sequence);
    tokens += sequence.ids.length;
  }
  return batches;
}

/** The inputs of the head: final hidden states, and the token that is scored after each. */
export interface AnswerStates {
  readonly hidden: Tensor; // [N, C]
  readonly targets: Tensor; // [N] u32
  /** Which policy they belong to; null with plain weights. */
  readonly rows: readonly RowGroup[] | null;
  readonly count: number;
}

/**
 * The inputs of the head for every scored token, in order. Call inside a scope.
 * @param policy  which policy, if the weights hold several; 0 with plain weights
 */
export function answerStates(
  model: Model,
  sequences: readonly Sequence[],
  policy = 0,
  options: ForwardOptions = {},
): AnswerStates {
  const distinct = distinctAnswers(model.config, sequences);
  const { hidden } = statesOfAnswers(model, distinct, policy, options);
  const targets = distinct.places.map((place) => distinct.targets[place]);
  const count = targets.length;
  return {
    hidden: gatherRows(hidden, distinct.places), // [N, C]
    targets: fromArray(model.backend, targets, [count], "u32", "targets"),
    rows: groupsOf(model, count, [policy]),
    count,
  };
}

/**
 * log p and entropy of every scored token, in order, [N] each. Tokens that sequences have in common from their start on are
 * computed once, and so is their part of the backward pass. Call inside a scope.
 * @param temperature  as in `head`
 */
export function answerScores(
  model: Model,
  sequences: readonly Sequence[],
  { temperature, ...options }: ForwardOptions & { readonly temperature: number },
): { logProbs: Tensor; entropy: Tensor } {
  const distinct = distinctAnswers(model.config, sequences);
  const { hidden, targets, rows } = statesOfAnswers(model, distinct, 0, options);
  const { logProbs, entropy } = head(hidden, headWeight(model.config, model.weights), targets, { temperature }, rows);
  return { logProbs: gatherRows(logProbs, distinct.places), entropy: gatherRows(entropy, distinct.places) };
}

/** The inputs of the head for distinct answers, on the tape if there is one. */
function statesOfAnswers(
  model: Model,
  distinct: DistinctAnswers,
  policy: number,
  options: ForwardOptions,
): AnswerStates {
  if (!isRecording()) return distinctStates(model, distinct, [policy]);
  const { tokens, before, targets } = distinct;
  const count = targets.length;
  const wanted = sumsOnMatrixUnits(model) ? null : [...new Set(before)];
  const states = statesOf(model, packDistinct(model.backend, tokens, wanted), options);
  const placeOf = new Map(wanted?.map((token, place) => [token, place]));
  return {
    hidden: gatherRows(
      states,
      before.map((token) => placeOf.get(token) ?? token),
    ), // [M, C]
    targets: fromArray(model.backend, targets, [count], "u32", "targets"),
    rows: null,
    count,
  };
}

/** What is scored in sequences, each only once: a state depends on the tokens up to it alone, and completions often begin alike. */
export interface DistinctAnswers {
  readonly tokens: DistinctTokens;
  /** Which of these tokens is before each of M scored tokens, and the id of that one. */
  readonly before: readonly number[]; // [M]
  readonly targets: Uint32Array; // [M]
  /** For each of the N scored tokens of the sequences, in order, which of the M it is. */
  readonly places: Uint32Array; // [N]
}

export function distinctAnswers({ vocabSize }: LanguageModel, sequences: readonly Sequence[]): DistinctAnswers {
  const { before, targets } = scoredTokens(sequences);
  const tokens = distinctTokens(sequences.map(({ ids }) => ids));
  // Two scored tokens are the same if they are the same id after the same token.
  const names = before.map((token, i) => tokens.places[token] * vocabSize + targets[i]);
  const distinct = [...new Set(names)].sort((a, b) => a - b);
  const placeOf = new Map(distinct.map((name, place) => [name, place]));
  return {
    tokens,
    before: distinct.map((name) => Math.floor(name / vocabSize)),
    targets: Uint32Array.from(distinct, (name) => name % vocabSize),
    places: Uint32Array.from(names, (name) => placeOf.get(name) ?? 0),
  };
}

/**
 * The inputs of the head for distinct answers, of one policy or several. There is no backward pass. Call inside a scope.
 * @param policies  which policies, if the weights hold several; each has M rows of its own, in this order. Default: policy 0
 */
export function distinctStates(
  model: Model,
  { tokens, before, targets }: DistinctAnswers,
  policies: readonly number[] = [0],
): AnswerStates {
  const copies = policies.length;
  const count = tokens.ids.length;
  const all = copies === 1 ? tokens : repeatedTokens(tokens, copies);
  const wanted = policies.flatMap((_, copy) => before.map((token) => copy * count + token));
  const batch = packDistinct(model.backend, all, wanted, groupsOf(model, count, policies));
  const ofAll = new Uint32Array(copies * targets.length);
  policies.forEach((_, copy) => void ofAll.set(targets, copy * targets.length));
  return {
    hidden: statesOf(model, batch),
    targets: fromArray(model.backend, ofAll, [ofAll.length], "u32", "targets"),
    rows: groupsOf(model, targets.length, policies),
    count: ofAll.length,
  };
}

/** For every scored token of packed sequences: the place of the token before it, and its id. */
function scoredTokens(sequences: readonly Sequence[]): { before: number[]; targets: Uint32Array } {
  const before: number[] = [];
  const targets: number[] = [];
  let start = 0;
  for (const sequence of sequences) {
    for (const t of scoredPositions(sequence)) {
      before.push(start + t - 1);
      targets.push(sequence.ids[t]);
    }
    start += sequence.ids.length;
  }
  return { before, targets: Uint32Array.from(targets) };
}

/** `count` rows of each policy, one after another; null with plain weights. */
function groupsOf({ weights }: Model, count: number, policies: readonly number[]): RowGroup[] | null {
  return weights.isPerturbed ? policies.map((point, i) => ({ start: i * count, count, point })) : null;
}

function statesOf(model: Model, batch: Batch, options?: ForwardOptions): Tensor {
  return finalStates(model.config, model.weights, batch, halfKeys(model, batch.positions.length), options);
}

/**
 * Whether gradients of weights are being summed on matrix units, which add several rows at once. There the last layer has
 * all rows, so that the order of these sums does not depend on which tokens are scored.
 */
function sumsOnMatrixUnits({ backend, config, weights }: Model): boolean {
  if (!isRecording() || matrixUnits(backend) === null) return false;
  return [...config.parameters().keys()].some((name) => {
    const weight = weights.get(name);
    return weight.kind === "tensor" && weight.half !== undefined;
  });
}

/**
 * In f16, where keys and values go: tensors of this batch alone, the same for all layers, which run one after another. So
 * they are rounded as in a cache, and scoring gets the bits of generation. Null in f32.
 */
function halfKeys({ backend, config, weights }: Model, tokens: number): LayerCaches | null {
  if (weights.operands !== "f16") return null;
  const { numHiddenLayers, numKeyValueHeads, headDim } = config;
  const [keys, values] = ["keys", "values"].map((name) =>
    empty(backend, [tokens, numKeyValueHeads, headDim], "f16", name),
  );
  const slots = Uint32Array.from({ length: tokens }, (_, t) => t);
  return {
    keys: new Array<Tensor>(numHiddenLayers).fill(keys),
    values: new Array<Tensor>(numHiddenLayers).fill(values),
    slots: fromArray(backend, slots, [tokens], "u32", "slots"),
  };
}

/** Scores sequences. The results are in the order of the sequences. */
export async function score(
  model: Model,
  sequences: readonly Sequence[],
  settings: { temperature: number; maxTokens: number; signal?: AbortSignal },
): Promise<SequenceScores[]> {
  const found: SequenceScores[] = [];
  for (const part of microBatches(sequences, settings.maxTokens)) {
    settings.signal?.throwIfAborted();
    const answers = distinctAnswers(model.config, part);
    const [logProbs, entropy, logSumExp] = await scopeAsync(async () => {
      const { hidden, targets, rows } = distinctStates(model, answers);
      const scored = head(
        hidden,
        headWeight(model.config, model.weights),
        targets,
        { temperature: settings.temperature },
        rows,
      );
      return readTensors([scored.logProbs, scored.entropy, scored.logSumExp]);
    });
    // In f16 a number may be beyond the format's range: that is reported, never returned as a score.
    if (model.weights.operands === "f16" && !logSumExp.every(Number.isFinite))
      throw new NumericalError(notNumbers("score", model.weights));
    let next = 0;
    for (const sequence of part) {
      const end = next + scoredPositions(sequence).length;
      const cut = (values: ArrayLike<number>): Float32Array =>
        Float32Array.from(answers.places.subarray(next, end), (place) => values[place]);
      found.push({ logProbs: cut(logProbs), entropy: cut(entropy), logSumExp: cut(logSumExp) });
      next = end;
    }
  }
  return found;
}

/** The scores of one sequence of T tokens. */
export interface WholeScores {
  /** [T − 1]: entry t is log p(ids[t + 1] | ids[..t]). */
  readonly logProbs: Float32Array;
  /** [T]: entropy of the distribution after each token, nats. */
  readonly entropy: Float32Array;
}

/**
 * Appends an arbitrary token, to get the distribution after the last one. The log-probability of that token is dropped.
 */
export function extended(ids: ArrayLike<number>): Sequence {
  return { ids: [...Array.from(ids), 0] };
}

/**
 * Scores every token of each sequence, and the entropy after the last. The results are in the order of the sequences.
 */
export async function scoreWhole(
  model: Model,
  sequences: readonly ArrayLike<number>[],
  settings: { temperature: number; maxTokens: number; signal?: AbortSignal; onTokens?: (count: number) => void },
): Promise<WholeScores[]> {
  const found: WholeScores[] = [];
  for (const part of microBatches(sequences.map(extended), settings.maxTokens)) {
    for (const { logProbs, entropy } of await score(model, part, settings))
      found.push({ logProbs: logProbs.slice(0, -1), entropy });
    settings.onTokens?.(part.reduce((sum, { ids }) => sum + ids.length - 1, 0));
  }
  return found;
}
