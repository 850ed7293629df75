// The language-model head, fused with log-softmax and the choice of one token per row. Logits are computed in chunks
// (logits.ts); only three numbers per row are kept. The backward pass computes the chunks again and replaces each by
// its gradient in place.

import { shouldRecord } from "../../autograd.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import { asParameter, type BatchRows, type Parameter, sliceBatchRows } from "../../parameters.ts";
import { type GradientTarget, run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Shape, type Tensor } from "../../tensor.ts";
import { panelShape } from "../matmul/matmul.ts";
import * as cpu from "./head.cpu.ts";
import {
  type ChunkSettings,
  columnParams,
  cutIntoChunks,
  emptyScores,
  emptySums,
  expectHalfCopies,
  expectTemperature,
  halfCopiesOf,
  type LogitScores,
  laneConstants,
  laneVariants,
  logitsOf,
  operandOf,
  type PlainWeight,
  pickLogits,
  plainWeight,
  scorePicked,
  sliceScores,
  sumLogits,
  vocabularyOf,
} from "./logits.ts";
import { logitsBackward } from "./logits-backward.ts";

const headBackwardKernel = defineKernel({
  name: "headBackward",
  axes: { rows: "map" },
  bindings: {
    logits: { access: "update", axis: "rows" },
    targets: { access: "read", axis: "rows" },
    logSumExp: { access: "read", axis: "rows" },
    entropy: { access: "read", axis: "rows" },
    dLogProbs: { access: "read", axis: "rows" },
    dEntropy: { access: "read", axis: "rows" },
  },
  params: { columns: "u32", width: "u32", blockColumns: "u32", firstColumn: "u32", temperature: "f32" },
  cpu: cpu.headBackward,
  wgsl: new URL("./head-backward.wgsl", import.meta.url),
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ rows, columns, blockColumns }) => [Math.ceil(columns / blockColumns), rows, 1],
});

export interface HeadSettings extends ChunkSettings {
  /** Above 0. */
  temperature: number;
}

/** The op below `head`, for a plain weight. */
export const headOp = defineOp<
  "hidden" | "weight" | "panels" | "targets",
  "logProbs" | "entropy",
  "logSumExp",
  HeadSettings
>({
  name: "head",
  optional: ["panels"],
  constants: ["panels", "targets"],
  saved: ["logSumExp"],
  shapes: (inputs, settings) => {
    checkHead(inputs, settings);
    if (inputs.panels !== undefined)
      expectShape(
        "head: panels",
        inputs.panels,
        panelShape(inputs.weight[0], inputs.weight[1]),
        "They are a copy of the weight.",
      );
    const T = inputs.hidden[0];
    return { logProbs: [T], entropy: [T], logSumExp: [T] };
  },
  forward: (_, { hidden, weight, panels, targets }, scores, settings) =>
    scoreTargets(hidden, plainWeight(weight, panels ?? null), null, targets, scores, settings),
  vjp: (_, saved, upstream, d, settings) =>
    headVjp(plainWeight(saved.weight, saved.panels ?? null), saved, upstream, d, settings),
});

/** `headOp` with f16 operands on matrix units: rows and panels are copies of weight, and are read in its place. */
export const mixedHeadOp = defineOp<
  "hidden" | "weight" | "rows" | "panels" | "targets",
  "logProbs" | "entropy",
  "logSumExp",
  HeadSettings
>({
  name: "mixedHead",
  constants: ["rows", "panels", "targets"],
  saved: ["logSumExp"],
  shapes: (inputs, settings) => {
    checkHead(inputs, settings);
    expectHalfCopies("head", inputs.weight, inputs);
    const T = inputs.hidden[0];
    return { logProbs: [T], entropy: [T], logSumExp: [T] };
  },
  forward: (_, { hidden, weight, rows, panels, targets }, scores, settings) =>
    scoreTargets(hidden, plainWeight(weight, null, { rows, panels }), null, targets, scores, settings),
  vjp: (_, saved, upstream, d, settings) =>
    headVjp(plainWeight(saved.weight, null, saved), saved, upstream, d, settings),
});

// With z = logits / τ, p = e^(z − logSumExp), H the entropy:
// dlogits = ((onehot − p)·dlogProbs − p·(ln p + H)·dentropy) / τ,   dhidden = dlogits·weight,   dweight = dlogitsᵀ·hidden
function headVjp(
  weight: PlainWeight,
  { hidden, targets, entropy, logSumExp }: Record<"hidden" | "targets" | "entropy" | "logSumExp", Tensor>,
  upstream: Record<"logProbs" | "entropy", Tensor>,
  d: { hidden?: GradientTarget | undefined; weight?: GradientTarget | undefined },
  settings: HeadSettings,
): void {
  logitsBackward(hidden, weight, d, settings, (rows, columns) => {
    const slice = (tensor: Tensor): Tensor => tensor.sliceRows(rows.start, rows.count);
    const logits = logitsOf(slice(hidden), weight, null, columns);
    run(
      headBackwardKernel,
      {
        logits,
        targets: slice(targets),
        logSumExp: slice(logSumExp),
        entropy: slice(entropy),
        dLogProbs: slice(upstream.logProbs),
        dEntropy: slice(upstream.entropy),
      },
      { ...columnParams(logits, columns), firstColumn: columns.start, temperature: settings.temperature },
      { constants: laneConstants(hidden.backend) },
    );
    return logits;
  });
}

function checkHead(
  { hidden, weight, targets }: { hidden: Shape; weight: Shape; targets: Shape },
  { temperature }: { temperature: number },
): void {
  expectRank("head: hidden", hidden, "T, C");
  expectShape("head: weight", weight, [weight[0], hidden[1]], "It is [V, C], with the C of hidden.");
  expectShape("head: targets", targets, [hidden[0]], "Each row of hidden has one token to score.");
  expectTemperature("head", temperature);
}

/** Fills `scores`. Forward only; for plain and perturbed weights. */
function scoreTargets(
  hidden: Tensor,
  weight: Parameter,
  rows: BatchRows,
  targets: Tensor,
  scores: LogitScores,
  settings: HeadSettings,
): void {
  const vocabulary = vocabularyOf(weight);
  const { temperature } = settings;
  const { rowChunks, columnChunks } = cutIntoChunks(hidden.backend, hidden.rows, vocabulary, hidden.dtype, settings);
  for (const part of rowChunks)
    scope(() => {
      const states = operandOf(hidden.sliceRows(part.start, part.count), weight);
      const own = sliceBatchRows(rows, part);
      const ownTargets = targets.sliceRows(part.start, part.count);
      const sums = emptySums(hidden, part.count, vocabulary);
      const picked = empty(hidden.backend, [part.count], hidden.dtype, memoryLabel("head", "picked logits"));
      for (const columns of columnChunks)
        scope(() => {
          const logits = logitsOf(states, weight, own, columns);
          sumLogits(logits, sums, columns, temperature);
          pickLogits(logits, ownTargets, picked, columns, temperature);
        });
      scorePicked(sums, picked, sliceScores(scores, part));
    });
}

/**
 * Log-probability of one token per row, with the entropy of the distribution that it comes from:
 * z = hidden·weightᵀ / τ,   logSumExp = ln Σ e^z,   logProbs = z[target] − logSumExp,   entropy = −Σ p ln p,  p = e^(z − logSumExp).
 * Gradients flow from logProbs and entropy to hidden and a plain weight; logSumExp has none. Perturbed weights: forward
 * only.
 * @param hidden    [T, C] f32
 * @param weight    [V, C], the language-model head or the tied embedding
 * @param targets   [T] u32, below V; another gives a log-probability of NaN
 * @param settings  temperature τ > 0; chunk sizes, if smaller than usual
 * @param rows      which grid point each row belongs to; null (the default) with a plain weight
 * @returns         logProbs, entropy (nats), logSumExp, each [T]
 * @throws ShapeError when weight is not [V, C] or targets not [T]
 */
export function head(
  hidden: Tensor,
  weightGiven: Tensor | Parameter,
  targets: Tensor,
  settings: HeadSettings,
  rows: BatchRows = null,
): LogitScores {
  const weight = asParameter(weightGiven);
  if (weight.kind === "tensor") {
    const given = { hidden, weight: weight.tensor, targets };
    const half = halfCopiesOf(weight, hidden.backend);
    return half === null
      ? headOp({ ...given, panels: weight.panels }, settings)
      : mixedHeadOp({ ...given, ...half }, settings);
  }
  if (shouldRecord([hidden]))
    throw new Error("head: perturbed weights have no gradient, nor have f16 panels: run it under noGradient");
  checkHead({ hidden: hidden.shape, weight: weight.shape, targets: targets.shape }, settings);
  const scores = emptyScores(hidden);
  scoreTargets(hidden, weight, rows, targets, scores, settings);
  return scores;
}
