// What the claims need of one slice. It is small, so that slices can be read one after another: tables of estimates
// without each prompt, which pair with those of other checkpoints, and estimates that need no other slice.
import type { ReferenceSet } from "../../files/cells.ts";
import type { CellSums } from "../cell-sums.ts";
import { rAtBudget, rewardAt, rInfinity, rWithinRing } from "../estimands.ts";
import type { Estimate } from "../intervals.ts";
import { type LeaveOneOut, leaveOneOut, ratioOfSums } from "../leave-one-out.ts";
import type { PromptMaps } from "../prompt-maps.ts";
import { subsampleInterval } from "../subsamples.ts";
import { type RingDifferences, ringDifferences } from "./first-differences.ts";
import { type KlBin, klBins } from "./kl-bins.ts";
import { type OverlapEvidence, overlapEvidence } from "./overlap.ts";
import { type SurrogateEvidence, surrogateEvidence } from "./surrogate.ts";

/** Quantities that are compared between checkpoints, paired over prompts. */
export interface PairedTables {
  readonly r: LeaveOneOut;
  readonly rInfinity: LeaveOneOut;
  readonly withinRing: LeaveOneOut;
  /** R(0, 0); null if the centre is not measured. */
  readonly originReward: LeaveOneOut | null;
  /** Share of rollouts with reward 0, over all cells. */
  readonly floor: LeaveOneOut;
}

export interface SliceEvidence {
  readonly tables: PairedTables;
  readonly overlap: OverlapEvidence | null;
  readonly surrogate: SurrogateEvidence | null;
  readonly klBins: readonly KlBin[];
  readonly firstDifferences: readonly RingDifferences[] | null;
}

/** @param cells  in any order, those of `maps` */
export function sliceEvidence(cells: readonly CellSums[], reference: ReferenceSet, maps: PromptMaps): SliceEvidence {
  const origin = maps.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0);
  return {
    tables: {
      r: leaveOneOut(rAtBudget(maps)),
      rInfinity: leaveOneOut(rInfinity(maps)),
      withinRing: leaveOneOut(rWithinRing(maps)),
      originReward: origin < 0 ? null : leaveOneOut(rewardAt(maps, origin)),
      floor: floorTable(cells),
    },
    overlap: overlapEvidence(maps),
    surrogate: surrogateEvidence(cells, reference, maps),
    klBins: klBins(cells, maps),
    firstDifferences: ringDifferences(cells, maps),
  };
}

function floorTable(cells: readonly CellSums[]): LeaveOneOut {
  const prompts = cells[0].reward.length;
  const zeros = new Float64Array(prompts);
  const counts = new Float64Array(prompts);
  for (const { rollouts } of cells)
    for (let p = 0; p < prompts; p++) {
      counts[p] += rollouts.count[p];
      zeros[p] += rollouts.zeros[p];
    }
  return leaveOneOut(ratioOfSums(zeros, counts));
}

/** The overlap as it stands in summary.json. */
export interface OverlapSummary {
  size: number;
  canDiffer: boolean;
  share: Estimate;
  expected: Estimate;
  /** share − expected. If it cannot differ from 0, there is no interval. */
  excess: Estimate;
}

export function overlapSummary(overlap: OverlapEvidence | null): OverlapSummary | null {
  if (overlap === null) return null;
  const { size, canDiffer, share, expected, excess } = overlap;
  const difference = subsampleInterval(excess);
  return {
    size,
    canDiffer,
    share: subsampleInterval(share),
    expected: subsampleInterval(expected),
    excess: canDiffer ? difference : { value: difference.value, low: null, high: null, standardError: null },
  };
}
