// Weights of several points around one model, for tests of generation.
import { MovedWeights, type ParameterArena, type PointWeights, SlotWeights } from "../../engine/index.ts";
import type { DirectionStep } from "../../engine/ops/perturbation/along.ts";

/** The steps to a point so far along one Gaussian direction. */
export const along = (amount: number) => (): readonly DirectionStep[] => [
  { kind: "gaussian", key: [5, 6], coefficient: amount },
];

/** Each kind of weights that holds three points. */
export const pointWeightsOf = (arena: ParameterArena): Readonly<Record<string, () => PointWeights>> => ({
  slots: () => new SlotWeights(arena, 3),
  "slots in f16": () => new SlotWeights(arena, 3, "f16"),
  moved: () => new MovedWeights(arena),
});
