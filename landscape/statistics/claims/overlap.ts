// Overlap of the top tenth of cells by R with the lowest tenth by KL, beside what maps that depend on the radius alone
// would give.
//
// Both tenths lie near the centre if R and KL only depend on the distance to it. The expectation shares each radius
// class (cells of one distance) out by chance: Σ_class (R's cells)·(KL's cells) ÷ (cells of the class). Cells that tie
// for the last places share them. So two maps that depend on the radius alone have an excess of exactly 0.
import { type Overlap, tenthsOverlap } from "../map-features.ts";
import type { PromptMaps } from "../prompt-maps.ts";
import { type Subsampled, subsampled, subsamplePlan } from "../subsamples.ts";

export interface OverlapEvidence {
  readonly size: number;
  /**
   * Whether a radius class lies partly in KL's tenth. If not, the excess is 0 whatever the rewards are, and shows
   * nothing.
   */
  readonly canDiffer: boolean;
  readonly share: Subsampled;
  readonly expected: Subsampled;
  /** share − expected. */
  readonly excess: Subsampled;
}

/** Null if a set has fewer than two prompts. */
export function overlapEvidence({ cells, reward, kl }: PromptMaps): OverlapEvidence | null {
  if (reward.length < 2 || kl.length < 2) return null;
  const plan = subsamplePlan(reward.length, kl.length);
  const at = (kept: Uint8Array): Overlap => tenthsOverlap(cells, meanOf(reward, kept), meanOf(kl, kept));
  const { size, canDiffer } = at(new Uint8Array(plan.prompts).fill(1));
  const [share, expected, excess] = subsampled(plan, 1 / size, (kept) => {
    const { share, expected } = at(kept);
    return [share, expected, share - expected];
  });
  return { size, canDiffer, share, expected, excess };
}

function meanOf(maps: readonly Float64Array[], kept: Uint8Array): Float64Array {
  const sum = new Float64Array(maps[0].length);
  let count = 0;
  maps.forEach((map, p) => {
    if (kept[p] !== 1) return;
    count++;
    for (let cell = 0; cell < sum.length; cell++) sum[cell] += map[cell];
  });
  for (let cell = 0; cell < sum.length; cell++) sum[cell] /= count;
  return sum;
}
