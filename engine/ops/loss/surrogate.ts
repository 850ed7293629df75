// The policy-gradient loss of GRPO, token by token. It sees log-probabilities, advantages and weights as vectors over
// the tokens of a batch. Groups and turns do not appear here: the caller expresses them in the weights.

import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import type { GradientTarget } from "../../run.ts";
import type { Tensor } from "../../tensor.ts";
import * as cpu from "./surrogate.cpu.ts";
import { tokensPerWorkgroup, weightedSumKernel } from "./weighted-sum.ts";

const forms = {
  clipped: cpu.clippedForm,
  "masked-importance": cpu.maskedForm,
  cispo: cpu.cappedForm,
  sapo: cpu.softForm,
} as const;

const surrogateKernel = defineKernel({
  name: "surrogate",
  axes: { rows: "map" },
  bindings: {
    logProbs: { access: "read", axis: "rows" },
    /** The old log-probabilities, or the log-ratios themselves. */
    ratioSource: { access: "read", axis: "rows" },
    advantages: { access: "read", axis: "rows" },
    referenceLogProbs: { access: "read", axis: "rows" },
    objective: { access: "write", axis: "rows" },
    ratio: { access: "write", axis: "rows" },
    penalty: { access: "write", axis: "rows" },
  },
  params: {
    form: "u32",
    low: "f32",
    high: "f32",
    cap: "f32",
    hasReference: "u32",
    penaltyTimesRatio: "u32",
    hasLogRatios: "u32",
  },
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
    /** Or the gradient of the log-ratios, by `routes`. */
    dLogProbs: { access: "gradient", axis: "rows" },
  },
  params: {
    form: "u32",
    low: "f32",
    high: "f32",
    cap: "f32",
    hasReference: "u32",
    penaltyTimesRatio: "u32",
    klCoefficient: "f32",
    routes: "u32",
  },
  cpu: cpu.surrogateBackward,
  wgsl: new URL("./surrogate-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup", "exp-minus", "is-finite"],
  workgroups: ({ rows }) => [Math.ceil(rows / tokensPerWorkgroup)],
});

export interface SurrogateSettings {
  /**
   * "clipped": PPO's objective, as in GRPO. "masked-importance": that of prime-rl, which drops tokens instead of
   * clipping. "cispo": that of MiniMax-M1, which caps the weight of a token and keeps its gradient. "sapo": a soft gate
   * in place of the clip.
   */
  readonly kind: keyof typeof forms;
  /** Clipped: ρ counts as at least 1 − clipLow and at most 1 + clipHigh, if that lowers the objective. */
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Masked importance: tokens with ρ below ratioLow or above ratioHigh are dropped; the bounds themselves stay. */
  readonly ratioLow: number;
  readonly ratioHigh: number;
  /**
   * Clipped: ρ counts as at most this where it is not clipped, so with negative advantages (δ of the two-sided clip).
   * CISPO: largest weight of a token. 0, the default, for none.
   */
  readonly ratioCap?: number;
  /** SAPO: temperature of the gate where A > 0 (default 1) and where it is not (default 1.05). */
  readonly sapoPositive?: number;
  readonly sapoNegative?: number;
  /** Weight of the divergence from the reference. */
  readonly klCoefficient: number;
  /** Whether the divergence is multiplied by ρ, which makes its gradient unbiased under old samples. Default: no. */
  readonly klTimesRatio?: boolean;
}

/** The op below `surrogate`. */
export const surrogateOp = defineOp<
  "logProbs" | "oldLogProbs" | "logRatios" | "advantages" | "weights" | "referenceLogProbs",
  "loss",
  "objective" | "ratio" | "penalty",
  SurrogateSettings
>({
  name: "surrogate",
  optional: ["oldLogProbs", "logRatios", "referenceLogProbs"],
  constants: ["oldLogProbs", "advantages", "weights", "referenceLogProbs"],
  saved: ["objective", "ratio", "penalty"],
  shapes: ({ logProbs, ...others }, { klCoefficient }) => {
    expectRank("surrogate: logProbs", logProbs, "N");
    for (const [name, shape] of Object.entries(others))
      expectShape(`surrogate: ${name}`, shape, logProbs, "There is one for each log-probability.");
    if ((others.oldLogProbs === undefined) === (others.logRatios === undefined))
      throw new ShapeError(
        `surrogate: expected oldLogProbs or logRatios, got ${others.logRatios === undefined ? "neither" : "both"}.`,
      );
    if (klCoefficient !== 0 && others.referenceLogProbs === undefined)
      throw new ShapeError(
        `surrogate: referenceLogProbs: expected [${logProbs}], got none. A KL coefficient of ${klCoefficient} needs them.`,
      );
    return { loss: [1], objective: logProbs, ratio: logProbs, penalty: logProbs };
  },
  forward: (
    run,
    { logProbs, oldLogProbs, logRatios, advantages, weights, referenceLogProbs },
    { loss, objective, ratio, penalty },
    settings,
  ) => {
    run(
      surrogateKernel,
      // No kernel reads the tensor that stands in for an absent reference.
      {
        logProbs,
        ratioSource: logRatios ?? oldLogProbs,
        advantages,
        referenceLogProbs: referenceLogProbs ?? logProbs,
        objective,
        ratio,
        penalty,
      },
      { ...paramsOf(settings, referenceLogProbs), hasLogRatios: logRatios === undefined ? 0 : 1 },
    );
    run(weightedSumKernel, { x: objective, weights, y: { tensor: loss, add: false } }, { factor: -1 });
    if (settings.klCoefficient !== 0)
      run(
        weightedSumKernel,
        { x: penalty, weights, y: { tensor: loss, add: true } },
        { factor: settings.klCoefficient },
      );
  },
  vjp: (run, saved, { loss: dLoss }, d, settings) => {
    const { logProbs, logRatios, advantages, weights, referenceLogProbs, ratio } = saved;
    const write = (target: GradientTarget, routes: number): void =>
      run(
        surrogateBackwardKernel,
        {
          logProbs,
          advantages,
          weights,
          referenceLogProbs: referenceLogProbs ?? logProbs,
          ratio,
          dLoss,
          dLogProbs: target,
        },
        { ...paramsOf(settings, referenceLogProbs), klCoefficient: settings.klCoefficient, routes },
      );
    if (d.logProbs) write(d.logProbs, logRatios === undefined ? cpu.bothRoutes : cpu.directRoute);
    if (d.logRatios) write(d.logRatios, cpu.ratioRoute);
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
 *   clipped            objective = min(min(ρ, ratioCap)·A, clamp(ρ, 1 − clipLow, 1 + clipHigh)·A)
 *   masked importance  objective = ρ·A·logProbs with ρ held constant, 0 for dropped tokens
 *   cispo              objective = min(ρ, ratioCap)·A·logProbs with min(ρ, ratioCap) held constant
 *   sapo               objective = 4/τ · A / (1 + e^(−τ(ρ − 1))), τ = sapoPositive if A > 0, else sapoNegative
 *   penalty            e^d − 1 − d with d = referenceLogProbs − logProbs (k3), times ρ if klTimesRatio, 0 without reference
 * Gradients are those of PyTorch's minimum and clamp, also at bounds and ties. logProbs and logRatios have one. A token of
 * weight 0 adds nothing, whatever its numbers are.
 * @param logProbs, advantages, weights  [N] f32
 * @param old                [N]: oldLogProbs; or logRatios, with ρ = exp(logRatios), for ratios of whole sequences
 * @param referenceLogProbs  [N], or null if klCoefficient is 0
 * @returns loss; objective, ratio (ρ) and penalty, which no gradient passes through
 * @throws ShapeError when lengths differ, or there is a KL coefficient but no reference
 * Source: Shao et al. 2024 (GRPO), eq. 3 and 4; Schulman 2020 (k3); MiniMax 2025 (CISPO), eq. 4; Gao et al. 2025 (SAPO).
 */
export function surrogate(
  logProbs: Tensor,
  old: Tensor | { readonly logRatios: Tensor },
  advantages: Tensor,
  weights: Tensor,
  referenceLogProbs: Tensor | null,
  settings: SurrogateSettings,
): Surrogate {
  const [oldLogProbs, logRatios] = "logRatios" in old ? [null, old.logRatios] : [old, null];
  return surrogateOp({ logProbs, oldLogProbs, logRatios, advantages, weights, referenceLogProbs }, settings);
}

function paramsOf(
  { kind, ratioCap = 0, klTimesRatio = false, ...settings }: SurrogateSettings,
  reference: unknown,
): { form: number; low: number; high: number; cap: number; hasReference: number; penaltyTimesRatio: number } {
  const [low, high] = boundsOf(kind, settings);
  return {
    form: forms[kind],
    low,
    high,
    cap: ratioCap,
    hasReference: reference === undefined ? 0 : 1,
    penaltyTimesRatio: klTimesRatio ? 1 : 0,
  };
}

/** The params `low` and `high` of a form. */
function boundsOf(
  kind: SurrogateSettings["kind"],
  settings: Omit<SurrogateSettings, "kind" | "klCoefficient">,
): readonly [number, number] {
  const { clipLow, clipHigh, ratioLow, ratioHigh, sapoPositive = 1, sapoNegative = 1.05 } = settings;
  switch (kind) {
    case "clipped":
    case "cispo":
      return [1 - clipLow, 1 + clipHigh];
    case "masked-importance":
      return [ratioLow, ratioHigh];
    case "sapo":
      return [sapoNegative, sapoPositive];
    default:
      return kind satisfies never;
  }
}
