// The loss of a GRPO step over the tokens of a micro-batch, from log-probabilities and entropies. Everything that depends
// on the whole batch (token weights, which tokens count, the number of tokens of the entropy bonus) is given per token, so
// that the losses of micro-batches add up to that of the batch. A sequence is never cut: its ratio needs all its tokens.
import { add, sequenceMean, sub, surrogate, type Tensor, weightedSum } from "../engine/index.ts";

export const policyLossKinds = ["clipped", "masked-importance", "cispo", "sapo"] as const;
export const importanceLevels = ["token", "sequence"] as const;

/** The loss that a GRPO step minimises; the formulas are at `surrogate` (engine/ops/loss). */
export interface PolicyLoss {
  readonly kind: (typeof policyLossKinds)[number];
  /** Bounds of "clipped". */
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Bounds of "masked-importance". */
  readonly ratioLow: number;
  readonly ratioHigh: number;
  /** "clipped": second bound (δ), of ratios with negative advantages. "cispo": the largest weight. 0 (default): none. */
  readonly ratioCap?: number;
  /** "sapo": temperatures of the gate for positive advantages, and for the others. Defaults 1 and 1.05. */
  readonly sapoPositive?: number;
  readonly sapoNegative?: number;
  /** Whose ratio counts: each token's (default), or e^(mean log-ratio over the tokens of the sequence), as in GSPO. */
  readonly importanceLevel?: (typeof importanceLevels)[number];
  /** Weight of the k3 divergence from the reference; 0 for none, and no reference is needed. */
  readonly klCoefficient: number;
  /** Whether that divergence is multiplied by the ratio. Default: no. */
  readonly klTimesRatio?: boolean;
  /** Weight of the entropy bonus: the loss has −entropyCoefficient · mean entropy. Default 0. */
  readonly entropyCoefficient?: number;
}

/** The policy loss that the training settings choose. */
export function policyLossOf({
  loss,
  ...training
}: Required<Omit<PolicyLoss, "kind">> & { readonly loss: PolicyLoss["kind"] }): PolicyLoss {
  const { clipLow, clipHigh, ratioLow, ratioHigh, ratioCap, importanceLevel } = training;
  const { klCoefficient, klTimesRatio, entropyCoefficient, sapoPositive, sapoNegative } = training;
  return {
    kind: loss,
    ...{ clipLow, clipHigh, ratioLow, ratioHigh, ratioCap, importanceLevel },
    ...{ klCoefficient, klTimesRatio, entropyCoefficient, sapoPositive, sapoNegative },
  };
}

/** The tokens of a micro-batch, sequences one after another: [N] each. */
export interface PolicyTokens {
  readonly logProbs: Tensor;
  readonly entropy: Tensor;
  readonly oldLogProbs: Tensor;
  /** 0 for tokens whose policy loss does not count. */
  readonly advantages: Tensor;
  readonly weights: Tensor;
  /** Null if there is no KL coefficient. */
  readonly referenceLogProbs: Tensor | null;
  /** The token's share of the mean entropy; null if there is no entropy bonus. */
  readonly entropyWeights: Tensor | null;
  /** Number of tokens of each sequence. */
  readonly lengths: readonly number[];
}

/**
 * loss = −Σ w · objective + klCoefficient · Σ w · penalty − entropyCoefficient · Σ entropyWeights · entropy, where objective,
 * penalty and ratio are those of `surrogate`, with the ratio of the token or of its sequence.
 * @returns loss [1]; ratio and penalty [N], which no gradient passes through
 * @throws ShapeError when there is a KL coefficient but no reference
 */
export function policyLoss(
  tokens: PolicyTokens,
  form: PolicyLoss,
): { readonly loss: Tensor; readonly ratio: Tensor; readonly penalty: Tensor } {
  const { logProbs, entropy, oldLogProbs, advantages, weights, referenceLogProbs, entropyWeights, lengths } = tokens;
  const { importanceLevel = "token", entropyCoefficient = 0, ...settings } = form;
  const old =
    importanceLevel === "token" ? oldLogProbs : { logRatios: sequenceMean(sub(logProbs, oldLogProbs), lengths) };
  const { loss, ratio, penalty } = surrogate(logProbs, old, advantages, weights, referenceLogProbs, settings);
  if (entropyWeights === null) return { loss, ratio, penalty };
  const bonus = weightedSum(entropy, entropyWeights); // the coefficient and its sign are in the weights
  return { loss: add(loss, bonus), ratio, penalty };
}

/**
 * The tokens of a batch whose policy loss counts: those with an entropy of at least the (1 − quantile) quantile of all
 * entropies (linear between order statistics), so also those that are equal to it.
 * @param entropies  of each sequence's tokens
 * @returns          1 or 0 for each of them
 * Source: Wang et al. 2025 ("beyond the 80/20 rule"); TRL's top_entropy_quantile.
 */
export function topEntropyTokens(entropies: readonly ArrayLike<number>[], quantile: number): Uint8Array[] {
  const sorted = Float64Array.from(entropies.flatMap((one) => Array.from(one))).sort();
  if (sorted.length === 0) return entropies.map(() => new Uint8Array());
  const place = (1 - quantile) * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  const threshold = sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  return entropies.map((one) => Uint8Array.from(one, (entropy) => (entropy >= threshold ? 1 : 0)));
}
