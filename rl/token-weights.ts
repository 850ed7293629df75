// The weight of a token in the objective, which depends on the whole batch. All tokens of a rollout have the same
// weight, so there is one number per rollout. Computed in float64 on the host; the device gets the weights of a
// micro-batch's tokens.

export type Normalisation = "group-token" | "batch-token" | "sequence" | "rollout-sum" | "constant";

export const normalisations: readonly Normalisation[] = [
  "group-token",
  "batch-token",
  "sequence",
  "rollout-sum",
  "constant",
];

/** The number of tokens of a rollout, and the group (prompt) that it belongs to. */
export interface CountedRollout {
  /** Number of the policy's tokens: all answers of the conversation, end tokens included. */
  readonly tokens: number;
  /** An identifier of the group: the same number for all rollouts of a prompt. */
  readonly group: number;
}

/**
 * The weight of each token of a rollout, so that an objective is Σ_rollouts weight · Σ_tokens term:
 *   group-token  1 / (tokens of its group · groups): the mean over each group's tokens, then over groups
 *   batch-token  1 / tokens of the batch
 *   sequence     1 / (tokens of the rollout · rollouts)
 *   rollout-sum  1 / rollouts: the sum over each rollout's tokens, then the mean over rollouts (LUSPO)
 *   constant     1 / (rollouts · maxNewTokens): the weight does not depend on the length of rollouts (Dr. GRPO)
 * A rollout without tokens has weight 0 and is counted among the rollouts; a group without tokens is counted among the groups.
 * @param maxNewTokens  the divisor of "constant", unused by the others
 * @returns [rollouts]
 * Source: Shao et al. 2024 (sequence), Yu et al. 2025 (batch-token), Liu et al. 2025 (constant).
 */
export function tokenWeights(
  normalisation: Normalisation,
  rollouts: readonly CountedRollout[],
  maxNewTokens?: number,
): Float64Array {
  const groupTokens = new Map<number, number>();
  let batchTokens = 0;
  for (const { tokens, group } of rollouts) {
    groupTokens.set(group, (groupTokens.get(group) ?? 0) + tokens);
    batchTokens += tokens;
  }
  const divisor = ({ tokens, group }: CountedRollout): number => {
    switch (normalisation) {
      case "group-token":
        return (groupTokens.get(group) ?? 0) * groupTokens.size;
      case "batch-token":
        return batchTokens;
      case "sequence":
        return tokens * rollouts.length;
      case "rollout-sum":
        return rollouts.length;
      case "constant":
        if (maxNewTokens === undefined) throw new Error('tokenWeights: "constant" needs maxNewTokens');
        return rollouts.length * maxNewTokens;
      default:
        return normalisation satisfies never;
    }
  };
  return Float64Array.from(rollouts, (rollout) => {
    const divided = 1 / divisor(rollout);
    return rollout.tokens === 0 ? 0 : divided;
  });
}

/** Statistics of the ratios ρ of a batch, as shares of its tokens; 0 if it has no tokens. */
export interface RatioStatistics {
  /** Tokens whose gradient is 0 because of clipping: ρ < 1 − clipLow with A < 0, and ρ > 1 + clipHigh with A > 0. */
  readonly clippedLow: number;
  readonly clippedHigh: number;
  /** Tokens with ρ outside the clip range, whatever their advantage. */
  readonly outside: number;
  /** Tokens with ρ < ratioLow, and with ρ > ratioHigh: those that the masked importance loss drops. */
  readonly droppedLow: number;
  readonly droppedHigh: number;
  /** Tokens with ρ > ratioCap and A > 0: those whose weight CISPO caps. 0 without a cap. */
  readonly capped: number;
  /** The least `clippedLow` and the largest `clippedHigh` of a single rollout with tokens. */
  readonly clippedLowMin: number;
  readonly clippedHighMax: number;
  readonly ratioMean: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
}

/**
 * @param ratios    ρ of each token, the rollouts one after another  [Σ tokens]
 * @param rollouts  the number of tokens and the advantage of each rollout
 * @throws Error when there is not one ratio per token
 */
export function ratioStatistics(
  ratios: ArrayLike<number>,
  rollouts: readonly { readonly tokens: number; readonly advantage: number }[],
  bounds: {
    readonly clipLow: number;
    readonly clipHigh: number;
    readonly ratioLow: number;
    readonly ratioHigh: number;
    /** Default 0: none. */
    readonly ratioCap?: number;
  },
): RatioStatistics {
  const tokens = rollouts.reduce((sum, rollout) => sum + rollout.tokens, 0);
  if (ratios.length !== tokens)
    throw new Error(`ratioStatistics: expected one ratio per token, ${tokens}, got ${ratios.length}`);
  const low = 1 - bounds.clipLow;
  const high = 1 + bounds.clipHigh;
  const cap = bounds.ratioCap || Number.POSITIVE_INFINITY;
  const counts = { clippedLow: 0, clippedHigh: 0, outside: 0, droppedLow: 0, droppedHigh: 0, capped: 0, ratioMean: 0 };
  let [clippedLowMin, clippedHighMax] = [1, 0];
  let [ratioMin, ratioMax] = [Number.POSITIVE_INFINITY, 0];
  let next = 0;
  for (const { tokens: length, advantage } of rollouts) {
    const before = { ...counts };
    for (const end = next + length; next < end; next++) {
      const ratio = ratios[next];
      counts.ratioMean += ratio;
      ratioMin = Math.min(ratioMin, ratio);
      ratioMax = Math.max(ratioMax, ratio);
      if (ratio < low && advantage < 0) counts.clippedLow++;
      if (ratio > high && advantage > 0) counts.clippedHigh++;
      if (ratio < low || ratio > high) counts.outside++;
      if (ratio < bounds.ratioLow) counts.droppedLow++;
      if (ratio > bounds.ratioHigh) counts.droppedHigh++;
      if (ratio > cap && advantage > 0) counts.capped++;
    }
    if (length === 0) continue;
    clippedLowMin = Math.min(clippedLowMin, (counts.clippedLow - before.clippedLow) / length);
    clippedHighMax = Math.max(clippedHighMax, (counts.clippedHigh - before.clippedHigh) / length);
  }
  const share = (count: number): number => (tokens === 0 ? 0 : count / tokens);
  return {
    clippedLow: share(counts.clippedLow),
    clippedHigh: share(counts.clippedHigh),
    outside: share(counts.outside),
    droppedLow: share(counts.droppedLow),
    droppedHigh: share(counts.droppedHigh),
    capped: share(counts.capped),
    clippedLowMin: tokens === 0 ? 0 : clippedLowMin,
    clippedHighMax,
    ratioMean: share(counts.ratioMean),
    ratioMin: tokens === 0 ? 0 : ratioMin,
    ratioMax,
  };
}
