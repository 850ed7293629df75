// `summary.json`: every statistic of one slice, computed from its cells alone, so that it can be computed again without
// a GPU. The same cells, options and seed give the same bytes.
import { ShapeError } from "../../engine/index.ts";
import { floorShareOf } from "../../rl/index.ts";
import type { CellPlace, CellRecord, ReferenceSet } from "../files/cells.ts";
import { type Grid, type GridCell, landmarks } from "../grid.ts";
import { type CellSums, cellSums, mapsOfSums } from "./cell-sums.ts";
import { type OverlapSummary, overlapSummary, type SliceEvidence, sliceEvidence } from "./claims/evidence.ts";
import type { RingDifferences } from "./claims/first-differences.ts";
import type { KlBin } from "./claims/kl-bins.ts";
import type { SurrogateEvidence } from "./claims/surrogate.ts";
import { type SimulatedCoverage, simulateCoverage } from "./coverage.ts";
import { ofMeanMaps, rAtBudget, rewardAt, rInfinity, rWithinRing } from "./estimands.ts";
import { type Estimate, jackknife, jackknifeCorrelation } from "./intervals.ts";
import { type Parity, parity, peakOf, type RingMean, ringMeans } from "./map-features.ts";
import { type Point, sum } from "./points.ts";
import { centredInRings, meanMap, type PromptMaps } from "./prompt-maps.ts";
import { type SmoothNull, smoothNull } from "./random-fields.ts";
import { type CorrelationDeterminations, determination, type Signal, signalOf } from "./signal.ts";
import { kendall, mean, partialPearson, partialSpearman, spearman } from "./statistics.ts";

/** Increases when a field changes its meaning or is removed. */
export const SUMMARY_SCHEMA_VERSION = 3;

export interface SummaryOptions {
  grid: Grid;
  /** Seed of the simulations here: null fields and coverage. */
  seed: number;
  /** Simulated studies for the coverage; 0 leaves it out. */
  simulations?: number;
  /** Number of null fields. */
  nullDraws?: number;
  /** ‖Δθ‖² of a cell, up to a constant, for the partial correlations; α² + β² unless given (directions of one norm, at right angles). */
  squaredDistance?: (cell: GridCell) => number;
}

/** Correlations are between KL (`kl_token`) and R over cells. An Estimate with a null value is undetermined. */
export interface Summary {
  schemaVersion: number;
  /** `cells` of `total` grid points are measured. */
  grid: Grid & { cells: number; total: number; isComplete: boolean };
  prompts: { rollouts: number; rolloutsPerPrompt: number; reference: number; referencePerPrompt: number };

  /** Pearson's, at this budget. */
  r: Estimate;
  /** Free of rollout noise; can pass ±1. */
  rInfinity: Estimate;
  /** r∞ of what is left within radius classes. */
  withinRing: Estimate;
  spearman: Estimate;
  kendall: number | null;
  /** Given ‖Δθ‖². */
  partialPearson: Estimate;
  partialSpearman: Estimate;
  /** Whether each correlation came out (intervals.ts has the rule), and how many prompts it needs. */
  determined: CorrelationDeterminations;
  /** How far each map's spread, over all cells and within radius classes, stands out of the noise. */
  signals: { reward: Signal; kl: Signal; rewardWithinRing: Signal; klWithinRing: Signal };
  /** Simulated coverage of the intervals above; null if it could not be simulated. */
  coverage: SimulatedCoverage | null;
  /** The correlation that a field unrelated to KL, as rough as R, would give. */
  smoothNull: SmoothNull | null;

  /** R(0, 0) with its interval over prompts. */
  originReward: Estimate | null;
  /** The origin's row of points.csv. */
  origin: Point | null;
  parity: Parity;
  peak: {
    i: number;
    j: number;
    alpha: number;
    beta: number;
    reward: number;
    region: [i: number, j: number][];
    includesCentre: boolean;
  } | null;
  /** Of the top tenth of R and the lowest tenth of KL; null with fewer than two prompts in a set. */
  overlap: OverlapSummary | null;
  /**
   * Rollouts with reward 0 over all cells; flagged above one half: r then mainly shows where the task fails completely.
   */
  floor: { share: number; isFlagged: boolean };
  /** Groups of reference completions whose advantages are not all 0: only these contribute to J. */
  advantages: { groups: number; nonZero: number };
  /** J − J(0,0) against R − R(0,0), raw and winsorised: first over all cells, then by ring. Null without the centre. */
  surrogate: SurrogateEvidence | null;
  /** The checkpoint's cell, then the others by their KL: entropy, length, pass@k and Cover@τ. */
  klBins: readonly KlBin[];
  /** Where conversations first differ from the checkpoint's: over all cells, then by ring. Null if it was not stored. */
  firstDifferences: readonly RingDifferences[] | null;
  rings: { reward: RingMean[]; kl: RingMean[] };
  /**
   * Mean `kl_token` at the mid-edges and at the corners; null where they are not measured, or an even grid has none.
   */
  klAtMidEdges: number | null;
  klAtCorners: number | null;
}

/** A slice around one checkpoint. */
export interface MeasuredSlice {
  step: number;
  slice: number;
  summary: Summary;
}

/** A slice with its statistics. */
export interface SummarisedSlice extends MeasuredSlice {
  /** The slice's folder. */
  readonly folder: string;
  /** The rows of its points.csv, in the order of measurement. */
  readonly points: readonly Point[];
  readonly maps: PromptMaps;
  /** What claims over several slices need. */
  readonly evidence: SliceEvidence;
  /** In the order of measurement. */
  readonly cells: readonly SummarisedCell[];
}

/** Where a cell's conversations are, and what points.csv does not say of its rollouts. */
export interface SummarisedCell extends CellPlace {
  /** Number of rollouts that the environment failed on. */
  readonly failed: number;
  /** Share of rollouts with reward 0. */
  readonly floorShare: number;
}

/** `summariseSums` of the cells' records. */
export function summarise(cells: readonly CellRecord[], reference: ReferenceSet, options: SummaryOptions): Summary {
  return summariseSums(
    cells.map((cell) => cellSums(cell, reference)),
    reference,
    options,
  ).summary;
}

/**
 * All statistics of a slice, the maps that they were made of, and what claims over several slices need; cells may be
 * missing.
 * @throws ShapeError when there is no cell, or the cells do not match one another (points.ts, cell-sums.ts)
 */
export function summariseSums(
  cells: readonly CellSums[],
  reference: ReferenceSet,
  options: SummaryOptions,
): { summary: Summary; maps: PromptMaps; evidence: SliceEvidence } {
  if (cells.length === 0) throw new ShapeError("summary: expected at least one measured cell, got none.");
  const maps = mapsOfSums(cells, reference.tokens.length, options.grid);
  const evidence = sliceEvidence(cells, reference, maps);
  return { summary: summaryOf(cells, maps, evidence, reference, options), maps, evidence };
}

function summaryOf(
  cells: readonly CellSums[],
  maps: PromptMaps,
  evidence: SliceEvidence,
  reference: ReferenceSet,
  options: SummaryOptions,
): Summary {
  const { grid, seed, simulations = 200, nullDraws = 1000 } = options;
  const points = new Map(cells.map(({ point }) => [`${point.i},${point.j}`, point]));
  const average = { reward: meanMap(maps.reward), kl: meanMap(maps.kl) };
  const { squaredDistance = ({ alpha, beta }) => alpha ** 2 + beta ** 2 } = options;
  const distance = maps.cells.map(squaredDistance);
  const origin = maps.cells.findIndex(({ alpha, beta }) => alpha === 0 && beta === 0);
  const { midEdges, corners } = landmarks(grid, maps.cells);
  const klAt = (places: readonly GridCell[]) =>
    places.length < 4 ? null : mean(places.map(({ i, j }) => points.get(`${i},${j}`)?.kl_token ?? Number.NaN));
  const r = jackknifeCorrelation(rAtBudget(maps));
  const rInfinityEstimate = jackknifeCorrelation(rInfinity(maps));
  const withinRing = jackknifeCorrelation(rWithinRing(maps));
  const signals = signalsOf(maps);
  const determined = (estimate: Estimate, ofReward: Signal, ofKl: Signal) =>
    determination(
      estimate.value !== null,
      { prompts: maps.reward.length, signal: ofReward },
      { prompts: maps.kl.length, signal: ofKl },
    );
  return {
    schemaVersion: SUMMARY_SCHEMA_VERSION,
    grid: { ...grid, cells: cells.length, total: grid.points ** 2, isComplete: cells.length === grid.points ** 2 },
    prompts: {
      rollouts: maps.reward.length,
      rolloutsPerPrompt: cells[0].rollouts.count[0],
      reference: maps.kl.length,
      referencePerPrompt: reference.tokens[0]?.length ?? 0,
    },
    r,
    rInfinity: rInfinityEstimate,
    withinRing,
    spearman: jackknifeCorrelation(ofMeanMaps(maps, spearman)),
    kendall: kendall(average.kl, average.reward),
    partialPearson: jackknifeCorrelation(ofMeanMaps(maps, (kl, reward) => partialPearson(kl, reward, distance))),
    partialSpearman: jackknifeCorrelation(ofMeanMaps(maps, (kl, reward) => partialSpearman(kl, reward, distance))),
    determined: {
      r: determined(r, signals.reward, signals.kl),
      rInfinity: determined(rInfinityEstimate, signals.reward, signals.kl),
      withinRing: determined(withinRing, signals.rewardWithinRing, signals.klWithinRing),
    },
    signals,
    coverage: simulations > 0 ? simulateCoverage(maps, { seed, simulations }) : null,
    smoothNull: smoothNull(maps.cells, average.kl, average.reward, { seed, draws: nullDraws }),
    originReward: origin < 0 ? null : jackknife(rewardAt(maps, origin)),
    origin: (origin < 0 ? null : points.get(`${maps.cells[origin].i},${maps.cells[origin].j}`)) ?? null,
    parity: parity(maps.cells, maps.reward),
    peak: peakSummary(maps),
    overlap: overlapSummary(evidence.overlap),
    floor: floorShareOf(
      cells.reduce((zeros, { rollouts }) => zeros + sum(rollouts.zeros), 0),
      cells.reduce((count, { rollouts }) => count + sum(rollouts.count), 0),
    ),
    advantages: {
      groups: reference.advantage.length,
      nonZero: reference.advantage.filter((group) => group.some((advantage) => advantage !== 0)).length,
    },
    surrogate: evidence.surrogate,
    klBins: evidence.klBins,
    firstDifferences: evidence.firstDifferences,
    rings: { reward: ringMeans(maps.cells, average.reward), kl: ringMeans(maps.cells, average.kl) },
    klAtMidEdges: klAt(midEdges),
    klAtCorners: klAt(corners),
  };
}

function signalsOf({ cells, reward, kl }: PromptMaps): Summary["signals"] {
  const rings = centredInRings(cells);
  return {
    reward: signalOf(reward),
    kl: signalOf(kl),
    rewardWithinRing: signalOf(reward, rings),
    klWithinRing: signalOf(kl, rings),
  };
}

function peakSummary(maps: PromptMaps): Summary["peak"] {
  const peak = peakOf(maps);
  if (peak === null) return null;
  const { cell, reward, region, includesCentre } = peak;
  const { i, j, alpha, beta } = cell;
  return { i, j, alpha, beta, reward, region: region.map((of) => [of.i, of.j]), includesCentre };
}
