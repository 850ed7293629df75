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
  record,
  repeatRows,
  scopeAsync,
  type Tensor,
} from "../engine/index.ts";
import { type Batch, packDistinct, packSequences } from "./batch.ts";
import { type Model, notNumbers } from "./generation.ts";
import { type ForwardOptions, finalStates, headWeight, type LayerCaches } from "./language-model.ts";

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

/**
 * The inputs of the head: the final hidden state before each scored token, and that token. Call inside a scope.
 * @param policy  which policy, if the weights hold several; 0 with plain weights
 */
export function answerStates(
  model: Model,
  sequences: readonly Sequence[],
  policy = 0,
  options: ForwardOptions = {},
): { hidden: Tensor; targets: Tensor; rows: readonly RowGroup[] | null; count: number } {
  const total = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
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
  const { isPerturbed } = model.weights;
  const isWhole = sumsOnMatrixUnits(model);
  const batch = packSequences(
    model.backend,
    sequences.map(({ ids }) => ids),
    isPerturbed ? [{ start: 0, count: total, point: policy }] : null,
    isWhole ? null : before,
  );
  const statesOf = (of: Batch): Tensor =>
    finalStates(model.config, model.weights, of, halfKeys(model, of.positions.length), options); // [N, C], or [T, C]
  const canShare = isRecording() && !isWhole && !options.recomputeLayers;
  const distinct = canShare
    ? packDistinct(
        model.backend,
        sequences.map(({ ids }) => ids),
        before,
      )
    : null;
  const states =
    distinct === null
      ? statesOf(batch)
      : repeatRows(
          record(() => statesOf(distinct.batch)),
          distinct.rows,
          () => statesOf(batch),
        );
  return {
    hidden: isWhole ? gatherRows(states, before) : states, // [N, C]
    targets: fromArray(model.backend, targets, [targets.length], "u32", "targets"),
    rows: isPerturbed ? [{ start: 0, count: before.length, point: policy }] : null,
    count: before.length,
  };
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
    const [logProbs, entropy, logSumExp] = await scopeAsync(async () => {
      const { hidden, targets, rows } = answerStates(model, part);
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
        Float32Array.from({ length: end - next }, (_, i) => values[next + i]);
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
