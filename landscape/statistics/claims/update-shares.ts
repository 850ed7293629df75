// What the singular subspaces of the weights add to T3: which share of each update lies in the top singular subspaces of the
// weights that it moves, beside a Gaussian's. A Gaussian update prefers no directions.
import type { UpdateRecord } from "../../weights/updates.ts";
import type { ClaimTable } from "./claim.ts";
import type { ExplorationPart } from "./exploration.ts";

/** An update over all matrices, each counted by its ‖Δ‖². */
export interface UpdateShares {
  readonly from: number;
  readonly to: number;
  /** ‖Δθ‖ over all tensors, and the share of its square that lies in weights with two axes. */
  readonly norm: number;
  readonly inMatrices: number;
  readonly left: number;
  readonly right: number;
  readonly both: number;
  /** A Gaussian's with the same ‖Δ‖ in every matrix, in expectation. */
  readonly gaussian: { readonly left: number; readonly right: number; readonly both: number };
  /** Matrices whose share of both is above the Gaussian's, of those that moved. */
  readonly above: number;
  readonly moved: number;
  /** Matrices whose top subspace was not told apart from the next singular values. */
  readonly unsettled: number;
}

/** Aggregates over the matrices of an update. */
export function updateShares({ from, to, squaredNorm, matrices }: UpdateRecord): UpdateShares {
  const total = matrices.reduce((sum, one) => sum + one.squaredNorm, 0);
  const weighted = (value: (one: UpdateRecord["matrices"][number]) => number): number =>
    total === 0 ? 0 : matrices.reduce((sum, one) => sum + one.squaredNorm * value(one), 0) / total;
  const moved = matrices.filter((one) => one.squaredNorm > 0);
  return {
    ...{ from, to, norm: Math.sqrt(squaredNorm), inMatrices: squaredNorm === 0 ? 0 : total / squaredNorm },
    left: weighted(({ left }) => left),
    right: weighted(({ right }) => right),
    both: weighted(({ both }) => both),
    gaussian: {
      left: weighted(({ gaussian }) => gaussian.left),
      right: weighted(({ gaussian }) => gaussian.right),
      both: weighted(({ gaussian }) => gaussian.both),
    },
    above: moved.filter(({ both, gaussian }) => both > gaussian.both).length,
    moved: moved.length,
    unsettled: matrices.filter(({ isSettled }) => !isSettled).length,
  };
}

/** A part of T3. Empty without updates. */
export function updatesOfT3(updates: readonly UpdateRecord[], rank: number): ExplorationPart[] {
  if (updates.length === 0) return [];
  const all = updates.map(updateShares);
  const ratios = all.filter(({ gaussian }) => gaussian.both > 0).map(({ both, gaussian }) => both / gaussian.both);
  const range =
    ratios.length === 0
      ? "no update moves a matrix"
      : `the share of an update in the top-${rank} singular subspaces of the weights that it moves is ` +
        `${times(Math.min(...ratios))} to ${times(Math.max(...ratios))} that of a Gaussian update`;
  return [
    {
      concluded: `Of ${all.length} updates between checkpoints, ${range} (one training, no interval).`,
      tables: [tableOf(all, rank)],
      panels: [],
      ...{ measures: "subspaces", evidence: null },
    },
  ];
}

const times = (ratio: number): string => `${ratio.toFixed(2)} times`;

function tableOf(all: readonly UpdateShares[], rank: number): ClaimTable {
  const unsettled = all.reduce((sum, one) => sum + one.unsettled, 0);
  return {
    caption:
      `Share of ‖Δθ‖² of an update, over weights with two axes, that lies in the top-${rank} left, right and both singular subspaces of the ` +
      "weights before it, each beside the Gaussian’s: what a random update with the same norm in every matrix has in " +
      "expectation. Above: matrices whose share of both is larger than the Gaussian’s." +
      (unsettled > 0
        ? ` In ${unsettled} cases the last of the ${rank} singular values is hardly larger than the next ones, so the subspace is not sharp.`
        : ""),
    columns: [
      { name: "update" },
      { name: "‖Δθ‖", digits: 3 },
      { name: "in matrices", digits: 3 },
      { name: "left", digits: 4 },
      { name: "Gaussian", digits: 4 },
      { name: "right", digits: 4 },
      { name: "Gaussian", digits: 4 },
      { name: "both", digits: 4 },
      { name: "Gaussian", digits: 4 },
      { name: "above" },
    ],
    rows: all.map(({ from, to, norm, inMatrices, left, right, both, gaussian, above, moved }) => [
      ...[`step ${from} to ${to}`, norm, inMatrices, left, gaussian.left, right, gaussian.right, both, gaussian.both],
      `${above} of ${moved}`,
    ]),
  };
}
