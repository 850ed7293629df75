// The landscape floor's public face: a whole study, its parts, and what is read from a run folder.
export { type CellRecord, type ReferenceSet, readConversations, readSlice, type SliceFiles } from "./files/cells.ts";
export { figuresFolder, reportPath, type SlicePlace, sliceFolder } from "./files/layout.ts";
export { readRunSettings } from "./files/run-settings.ts";
export { type Grid, type GridCell, gridCells } from "./grid.ts";
export type { Direction, TensorDirection } from "./measure/directions/direction.ts";
export { type DirectionFacts, makeDirections, makeSlice, type Slice, stepsTo } from "./measure/directions.ts";
export { PerturbedWeights } from "./measure/perturbed-weights.ts";
export { sweep } from "./measure/sweep.ts";
export { type CheckpointModel, prepareReference, type SweepContext } from "./measure/sweep-context.ts";
export { drawRun, summariseRun } from "./report/report.ts";
export { type StudySettings, studySettings } from "./settings.ts";
export { promptMaps } from "./statistics/cell-sums.ts";
export { difference, type Estimand, rAtBudget, rInfinity, rWithinRing, trend } from "./statistics/estimands.ts";
export { acrossSlices, type Estimate, jackknife, jackknifeCorrelation } from "./statistics/intervals.ts";
export type { PromptMaps } from "./statistics/prompt-maps.ts";
export { type Summary, type SummaryOptions, summarise } from "./statistics/summary.ts";
export { runStudy } from "./study.ts";
