// The host's part of the surrogate loss: what each token counts, and what the ratios say about a batch. In float64.

export type Normalisation = "group-token" | "batch-token" | "sequence" | "constant";

/** Who the tokens of a batch belong to. */
export interface TokenOwners {
  /** Sequence of each token. */
  readonly sequenceOf: ArrayLike<number>; // [N]
  /** Group of each sequence. Sequences without tokens are in it too: they count. */
  readonly groupOf: ArrayLike<number>; // [sequences]
  /** 0 where a token is not the policy's own. Absent: all are. */
  readonly mask?: ArrayLike<number>; // [N]
  /** Divisor of "constant". */
  readonly maxNewTokens?: number;
}

/**
 * What each token counts, so that an objective is Σ weight · (its tokens' terms):
 *   group-token  1 / (tokens of its group · groups): the mean over each group's tokens, then over groups
 *   batch-token  1 / tokens of the batch
 *   sequence     1 / (tokens of its sequence · sequences)
 *   constant     1 / (sequences · maxNewTokens): no length can gain by its divisor (Dr. GRPO)
 * A group or sequence without tokens adds 0 and is counted. Tokens outside the mask count 0. Weights are those of the
 * whole batch: a micro-batch takes its tokens' share of them.
 * @returns [N]
 */
export function normalisationWeights(normalisation: Normalisation, owners: TokenOwners): Float64Array {
  const { sequenceOf, groupOf, mask, maxNewTokens } = owners;
  const sequences = groupOf.length;
  const sequenceTokens = new Float64Array(sequences);
  const groupTokens = new Map<number, number>();
  for (let s = 0; s < sequences; s++) groupTokens.set(groupOf[s], 0);
  let all = 0;
  const isOwn = (token: number): boolean => mask === undefined || mask[token] !== 0;
  for (let i = 0; i < sequenceOf.length; i++) {
    const s = sequenceOf[i];
    if (!(s >= 0 && s < sequences))
      throw new Error(`normalisationWeights: token ${i} is of sequence ${s}, there are ${sequences}`);
    if (!isOwn(i)) continue;
    all++;
    sequenceTokens[s]++;
    groupTokens.set(groupOf[s], (groupTokens.get(groupOf[s]) ?? 0) + 1);
  }
  const divisor = (token: number): number => {
    const s = sequenceOf[token];
    switch (normalisation) {
      case "group-token":
        return (groupTokens.get(groupOf[s]) ?? 0) * groupTokens.size;
      case "batch-token":
        return all;
      case "sequence":
        return sequenceTokens[s] * sequences;
      case "constant":
        if (maxNewTokens === undefined) throw new Error('normalisationWeights: "constant" needs maxNewTokens');
        return sequences * maxNewTokens;
      default:
        return normalisation satisfies never;
    }
  };
  return Float64Array.from({ length: sequenceOf.length }, (_, token) => (isOwn(token) ? 1 / divisor(token) : 0));
}

export interface SurrogateStatistics {
  /** Share of tokens whose clipping took effect: ρ < 1 − clipLow with A < 0, ρ > 1 + clipHigh with A > 0 (as TRL counts). */
  readonly clipFractionLow: number;
  readonly clipFractionHigh: number;
  /** Share of tokens with ρ outside the clip range, whatever their advantage. */
  readonly outsideFraction: number;
  /** Share of tokens with ρ < ratioLow and with ρ > ratioHigh: what masked importance drops. */
  readonly droppedFractionLow: number;
  readonly droppedFractionHigh: number;
  readonly ratioMean: number;
  readonly tokens: number;
}

/**
 * Shares and means over a batch's tokens (those in the mask); all 0 where there is none.
 * @param ratio, advantages  [N]
 */
export function surrogateStatistics(
  ratio: ArrayLike<number>,
  advantages: ArrayLike<number>,
  bounds: {
    readonly clipLow: number;
    readonly clipHigh: number;
    readonly ratioLow: number;
    readonly ratioHigh: number;
  },
  mask?: ArrayLike<number>,
): SurrogateStatistics {
  const low = 1 - bounds.clipLow;
  const high = 1 + bounds.clipHigh;
  const counts = {
    clipFractionLow: 0,
    clipFractionHigh: 0,
    outsideFraction: 0,
    droppedFractionLow: 0,
    droppedFractionHigh: 0,
  };
  let tokens = 0;
  let sum = 0;
  for (let i = 0; i < ratio.length; i++) {
    if (mask !== undefined && mask[i] === 0) continue;
    const rho = ratio[i];
    const A = advantages[i];
    tokens++;
    sum += rho;
    if (rho < low && A < 0) counts.clipFractionLow++;
    if (rho > high && A > 0) counts.clipFractionHigh++;
    if (rho < low || rho > high) counts.outsideFraction++;
    if (rho < bounds.ratioLow) counts.droppedFractionLow++;
    if (rho > bounds.ratioHigh) counts.droppedFractionHigh++;
  }
  const share = (count: number): number => (tokens === 0 ? 0 : count / tokens);
  return {
    clipFractionLow: share(counts.clipFractionLow),
    clipFractionHigh: share(counts.clipFractionHigh),
    outsideFraction: share(counts.outsideFraction),
    droppedFractionLow: share(counts.droppedFractionLow),
    droppedFractionHigh: share(counts.droppedFractionHigh),
    ratioMean: share(sum),
    tokens,
  };
}
