// The policy-gradient loss of GRPO, token by token. It sees log-probabilities, advantages and weights as vectors over
// the tokens of a batch. Groups and turns do not appear here: the caller expresses them in the weights.

import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import type { Tensor } from "../../tensor.ts";
import * as cpu from "./surrogate.cpu.ts";
import { tokensPerWorkgroup, weightedSumKernel } from "./weighted-sum.ts";

const surrogateKernel = defineKernel({
  name: "surrogate",
  axes: { rows: "map" },
  bindings: {
    logProbs: { access: "read", axis: "rows" },
    oldLogProbs: { access: "read", axis: "rows" },
    advantages: { access: "read", axis: "rows" },
    referenceLogProbs: { access: "read", axis: "rows" },
    objective: { access: "write", axis: "rows" },
    ratio: { access: "write", axis: "rows" },
    penalty: { access: "write", axis: "rows" },
  },
  params: { dropOutside: "u32", low: "f32", high: "f32", hasReference: "u32" },
  cpu: cpu.surrogate,
  wgsl: new URL("./surrogate.wgsl", import.meta.url),
  uses: ["flat-workgroup", "exp-minus", "is-finite"],
  workgroups: ({ rows }) => [Math.ceil(rows / tokensPerWorkgroup)],
});

const surrogateBackwardKernel = defineKernel({
  name: "surrogateBackward",
  axes: { rows: "map" },
  bindings: {
    logProbs: { access: "read", axis: "rows" },
    advantages: { access: "read", axis: "rows" },
    weights: { access: "read", axis: "rows" },
    referenceLogProbs: { access: "read", axis: "rows" },
    ratio: { access: "read", axis: "rows" },
    dLoss: { access: "read" },
    dLogProbs: { access: "gradient", axis: "rows" },
  },
  params: { dropOutside: "u32", low: "f32", high: "f32", hasReference: "u32", klCoefficient: "f32" },
  cpu: cpu.surrogateBackward,
  wgsl: new URL("./surrogate-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup", "exp-minus", "is-finite"],
  workgroups: ({ rows }) => [Math.ceil(rows / tokensPerWorkgroup)],
});

export interface SurrogateSettings {
  /**
   * "clipped": PPO's objective, as in GRPO. "masked-importance": that of prime-rl, which drops tokens instead of
   * clipping.
   */
  readonly kind: "clipped" | "masked-importance";
  /** Clipped: ρ counts as at least 1 − clipLow and at most 1 + clipHigh, if that lowers the objective. */
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Masked importance: tokens with ρ below ratioLow or above ratioHigh are dropped; the bounds themselves stay. */
  readonly ratioLow: number;
  readonly ratioHigh: number;
  /** Weight of the divergence from the reference. */
  readonly klCoefficient: number;
}

/** The op below `surrogate`. */
export const surrogateOp = defineOp<
  "logProbs" | "oldLogProbs" | "advantages" | "weights" | "referenceLogProbs",
  "loss",
  "objective" | "ratio" | "penalty",
  SurrogateSettings
>({
  name: "surrogate",
  optional: ["referenceLogProbs"],
  constants: ["oldLogProbs", "advantages", "weights", "referenceLogProbs"],
  saved: ["objective", "ratio", "penalty"],
  shapes: ({ logProbs, ...others }, { klCoefficient }) => {
    expectRank("surrogate: logProbs", logProbs, "N");
    for (const [name, shape] of Object.entries(others))
      expectShape(`surrogate: ${name}`, shape, logProbs, "There is one for each log-probability.");
    if (klCoefficient !== 0 && others.referenceLogProbs === undefined)
      throw new ShapeError(
        `surrogate: referenceLogProbs: expected [${logProbs}], got none. A KL coefficient of ${klCoefficient} needs them.`,
      );
    return { loss: [1], objective: logProbs, ratio: logProbs, penalty: logProbs };
  },
  forward: (
    run,
    { logProbs, oldLogProbs, advantages, weights, referenceLogProbs },
    { loss, objective, ratio, penalty },
    settings,
  ) => {
    run(
      surrogateKernel,
      // No kernel reads the tensor that stands in for an absent reference.
      {
        logProbs,
        oldLogProbs,
        advantages,
        referenceLogProbs: referenceLogProbs ?? logProbs,
        objective,
        ratio,
        penalty,
      },
      paramsOf(settings, referenceLogProbs),
    );
    run(weightedSumKernel, { x: objective, weights, y: { tensor: loss, add: false } }, { factor: -1 });
    if (settings.klCoefficient !== 0)
      run(
        weightedSumKernel,
        { x: penalty, weights, y: { tensor: loss, add: true } },
        { factor: settings.klCoefficient },
      );
  },
  vjp: (run, { logProbs, advantages, weights, referenceLogProbs, ratio }, { loss: dLoss }, d, settings) => {
    if (d.logProbs)
      run(
        surrogateBackwardKernel,
        {
          logProbs,
          advantages,
          weights,
          referenceLogProbs: referenceLogProbs ?? logProbs,
          ratio,
          dLoss,
          dLogProbs: d.logProbs,
        },
        { ...paramsOf(settings, referenceLogProbs), klCoefficient: settings.klCoefficient },
      );
  },
});

export interface Surrogate {
  readonly loss: Tensor; // [1]
  /** The parts of the loss. No gradient passes through these. */
  readonly objective: Tensor; // [N]
  readonly ratio: Tensor; // [N]
  readonly penalty: Tensor; // [N]
}

/**
 * GRPO's loss over tokens: loss = −Σ w·objective + klCoefficient · Σ w·penalty, with ρ = exp(logProbs − oldLogProbs),
 *   clipped            objective = min(ρ·A, clamp(ρ, 1 − clipLow, 1 + clipHigh)·A)
 *   masked importance  objective = ρ·A·logProbs with ρ held constant, 0 for dropped tokens
 *   penalty            e^d − 1 − d with d = referenceLogProbs − logProbs (k3), 0 without reference
 * Gradients are those of PyTorch's minimum and clamp, also at bounds and ties. Only logProbs has one. A token of weight
 * 0 adds nothing, whatever its numbers are.
 * @param logProbs, oldLogProbs, advantages, weights  [N] f32
 * @param referenceLogProbs  [N], or null if klCoefficient is 0
 * @returns loss; objective, ratio (ρ) and penalty, which no gradient passes through
 * @throws ShapeError when lengths differ, or there is a KL coefficient but no reference
 * Source: Shao et al. 2024 (GRPO), eq. 3 and 4; Schulman 2020 (k3).
 */
export function surrogate(
  logProbs: Tensor,
  oldLogProbs: Tensor,
  advantages: Tensor,
  weights: Tensor,
  referenceLogProbs: Tensor | null,
  settings: SurrogateSettings,
): Surrogate {
  return surrogateOp({ logProbs, oldLogProbs, advantages, weights, referenceLogProbs }, settings);
}

function paramsOf(
  { kind, clipLow, clipHigh, ratioLow, ratioHigh }: SurrogateSettings,
  reference: unknown,
): { dropOutside: number; low: number; high: number; hasReference: number } {
  const hasReference = reference === undefined ? 0 : 1;
  switch (kind) {
    case "clipped":
      return { dropOutside: 0, low: 1 - clipLow, high: 1 + clipHigh, hasReference };
    case "masked-importance":
      return { dropOutside: 1, low: ratioLow, high: ratioHigh, hasReference };
    default:
      return kind satisfies never;
  }
}
