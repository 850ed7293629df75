// Kullback–Leibler divergence between two heads, exact over the vocabulary. With d = ln q − ln p,
//   KL(p ‖ q) = Σ p·(e^d − 1 − d),
// each term of which is at least 0 and of second order in d. So nothing cancels, and the sum is exactly 0 if q equals p
// bit for bit. Both log-sum-exps come first (P's is given, kept from when P was scored), then a second pass over the
// logits' chunks.

import { noGradient } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import { type BatchRows, type Parameter, shapeOfParameter, sliceBatchRows } from "../../parameters.ts";
import { type GradientTarget, run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, fromArray, type IndexRange, type Shape, type Tensor } from "../../tensor.ts";
import { gatherRows } from "../gather/gather.ts";
import * as cpu from "./kl-divergence.cpu.ts";
import {
  bindPickRows,
  blockColumns,
  type ChunkSettings,
  columnParams,
  cutIntoChunks,
  emptyScores,
  emptySums,
  expectHalfCopies,
  expectTemperature,
  type LogitScores,
  laneConstants,
  laneVariants,
  logitsOf,
  type PickRows,
  type PlainWeight,
  pickLogits,
  pickRowParams,
  plainWeight,
  scorePicked,
  sumLogits,
  vocabularyOf,
} from "./logits.ts";
import { logitsBackward } from "./logits-backward.ts";

// A row of Q is a pick of a row of P. Over the segments of P, each dispatch does those whose row of P it holds.
const klTermsKernel = defineKernel({
  name: "klTerms",
  axes: { picks: "map", source: "reduce" },
  bindings: {
    logitsP: { access: "read", axis: "source" },
    logitsQ: { access: "read", axis: "picks" },
    rowOf: { access: "read", axis: "picks" },
    logSumExpP: { access: "read", axis: "source" },
    logSumExpQ: { access: "read", axis: "picks" },
    sums: { access: "update", axis: "picks" },
  },
  params: {
    ...pickRowParams,
    ...{ columns: "u32", width: "u32", blockColumns: "u32", firstBlock: "u32", blocks: "u32", temperature: "f32" },
  },
  cpu: cpu.klTerms,
  wgsl: new URL("./kl-divergence.wgsl", import.meta.url),
  uses: ["tree-sum", "pick-row"],
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ picks, columns, blockColumns }) => [Math.ceil(columns / blockColumns), picks, 1],
});

const klTotalKernel = defineKernel({
  name: "klTotal",
  axes: { rows: "map" },
  bindings: { sums: { access: "read", axis: "rows" }, kl: { access: "write", axis: "rows" } },
  params: { blocks: "u32" },
  cpu: cpu.klTotal,
  wgsl: new URL("./kl-divergence-total.wgsl", import.meta.url),
  workgroups: ({ rows }) => [Math.ceil(rows / 64)],
});

const klBackwardKernel = defineKernel({
  name: "klBackward",
  axes: { rows: "map" },
  bindings: {
    logitsP: { access: "read", axis: "rows" },
    logitsQ: { access: "update", axis: "rows" },
    logSumExpP: { access: "read", axis: "rows" },
    logSumExpQ: { access: "read", axis: "rows" },
    dKl: { access: "read", axis: "rows" },
  },
  params: { columns: "u32", width: "u32", blockColumns: "u32", temperature: "f32" },
  cpu: cpu.klBackward,
  wgsl: new URL("./kl-divergence-backward.wgsl", import.meta.url),
  constants: { LANES: 64 },
  variants: laneVariants,
  workgroups: ({ rows, columns, blockColumns }) => [Math.ceil(columns / blockColumns), rows, 1],
});

export interface KlSettings extends ChunkSettings {
  /** Above 0. */
  temperature: number;
}

/**
 * KL(p ‖ q) per row over the whole vocabulary, p = softmax(hiddenP·headPᵀ / τ), q likewise. Gradients flow to hiddenQ
 * and headQ; P is a constant.
 * @param hiddenP     [T, C] f32
 * @param headP       [V, C]
 * @param logSumExpP  [T], as `head` returns it for hiddenP, headP and this temperature
 * @param hiddenQ     [T, C']
 * @param headQ       [V, C']
 * @returns           kl [T], nats, never negative
 * @throws ShapeError when the shapes do not match
 */
export const klDivergenceOp = defineOp<
  "hiddenP" | "headP" | "logSumExpP" | "hiddenQ" | "headQ",
  "kl",
  "logSumExpQ",
  KlSettings
>({
  name: "klDivergence",
  constants: ["hiddenP", "headP", "logSumExpP"],
  saved: ["logSumExpQ"],
  shapes: ({ hiddenP, headP, logSumExpP, hiddenQ, headQ }, { temperature }) => {
    checkBothHeads("klDivergence", { hiddenP, headP, logSumExpP, hiddenQ, headQ }, temperature);
    return { kl: [hiddenQ[0]], logSumExpQ: [hiddenQ[0]] };
  },
  forward: (_, inputs, outputs, settings) =>
    klForward(inputs, plainWeight(inputs.headP), plainWeight(inputs.headQ), outputs, settings),
  vjp: (_, saved, { kl }, d, settings) =>
    klVjp(saved, plainWeight(saved.headP), plainWeight(saved.headQ), kl, d, settings),
});

/** `klDivergenceOp` with f16 operands on matrix units: rows and panels of P and Q are copies of headP and headQ. */
export const mixedKlDivergenceOp = defineOp<
  "hiddenP" | "headP" | "rowsP" | "panelsP" | "logSumExpP" | "hiddenQ" | "headQ" | "rowsQ" | "panelsQ",
  "kl",
  "logSumExpQ",
  KlSettings
>({
  name: "mixedKlDivergence",
  constants: ["hiddenP", "headP", "rowsP", "panelsP", "logSumExpP", "rowsQ", "panelsQ"],
  saved: ["logSumExpQ"],
  shapes: (inputs, { temperature }) => {
    const { headP, headQ, hiddenQ, rowsP, panelsP, rowsQ, panelsQ } = inputs;
    checkBothHeads("klDivergence", inputs, temperature);
    expectHalfCopies("klDivergence: headP", headP, { rows: rowsP, panels: panelsP });
    expectHalfCopies("klDivergence: headQ", headQ, { rows: rowsQ, panels: panelsQ });
    return { kl: [hiddenQ[0]], logSumExpQ: [hiddenQ[0]] };
  },
  forward: (_, inputs, outputs, settings) => {
    const { headP, headQ } = mixedHeads(inputs);
    klForward(inputs, headP, headQ, outputs, settings);
  },
  vjp: (_, saved, { kl }, d, settings) => {
    const { headP, headQ } = mixedHeads(saved);
    klVjp(saved, headP, headQ, kl, d, settings);
  },
});

function mixedHeads(inputs: Record<"headP" | "headQ" | "rowsP" | "panelsP" | "rowsQ" | "panelsQ", Tensor>) {
  return {
    headP: plainWeight(inputs.headP, null, { rows: inputs.rowsP, panels: inputs.panelsP }),
    headQ: plainWeight(inputs.headQ, null, { rows: inputs.rowsQ, panels: inputs.panelsQ }),
  };
}

type BothSides = Record<"hiddenP" | "logSumExpP" | "hiddenQ", Tensor>;

function klForward(
  { hiddenP, logSumExpP, hiddenQ }: BothSides,
  headP: PlainWeight,
  headQ: PlainWeight,
  { kl, logSumExpQ }: Record<"kl" | "logSumExpQ", Tensor>,
  settings: KlSettings,
): void {
  scope(() => {
    const { logProbs, entropy } = emptyScores(hiddenQ);
    const p = { hidden: hiddenP, head: headP, rows: null, logSumExp: logSumExpP };
    const q = { hidden: hiddenQ, head: headQ, rows: null };
    compare(p, q, null, { logProbs, entropy, logSumExp: logSumExpQ, kl }, settings);
  });
}

// dlogitsQ = (q − p)·dkl / τ,   dhiddenQ = dlogitsQ·headQ,   dheadQ = dlogitsQᵀ·hiddenQ
function klVjp(
  { hiddenP, logSumExpP, hiddenQ, logSumExpQ }: BothSides & { logSumExpQ: Tensor },
  headP: PlainWeight,
  headQ: PlainWeight,
  dKl: Tensor,
  d: { hiddenQ?: GradientTarget | undefined; headQ?: GradientTarget | undefined },
  settings: KlSettings,
): void {
  logitsBackward(hiddenQ, headQ, { hidden: d.hiddenQ, weight: d.headQ }, settings, (rows, columns) => {
    const slice = (tensor: Tensor): Tensor => tensor.sliceRows(rows.start, rows.count);
    const logitsQ = logitsOf(slice(hiddenQ), headQ, null, columns);
    run(
      klBackwardKernel,
      {
        logitsP: logitsOf(slice(hiddenP), headP, null, columns),
        logitsQ,
        logSumExpP: slice(logSumExpP),
        logSumExpQ: slice(logSumExpQ),
        dKl: slice(dKl),
      },
      { ...columnParams(logitsQ, columns), temperature: settings.temperature },
      { constants: laneConstants(hiddenQ.backend) },
    );
    return logitsQ;
  });
}

function checkBothHeads(
  name: string,
  shapes: { hiddenP: Shape; headP: Shape; logSumExpP: Shape; hiddenQ: Shape; headQ: Shape },
  temperature: number,
): void {
  const { hiddenP, headP, logSumExpP, hiddenQ, headQ } = shapes;
  expectRank(`${name}: hiddenP`, hiddenP, "T, C");
  expectRank(`${name}: hiddenQ`, hiddenQ, "T, C");
  expectShape(`${name}: hiddenP`, hiddenP, [hiddenQ[0], hiddenP[1]], "Both sides have the same rows.");
  expectShape(`${name}: headQ`, headQ, [headQ[0], hiddenQ[1]], "It is [V, C], with the C of hiddenQ.");
  expectShape(`${name}: headP`, headP, [headQ[0], hiddenP[1]], "Both sides have one vocabulary.");
  expectShape(`${name}: logSumExpP`, logSumExpP, [hiddenP[0]], "It has a number for each row of hiddenP.");
  expectTemperature(name, temperature);
}

interface SideQ {
  hidden: Tensor;
  head: Parameter;
  rows: BatchRows;
}
interface SideP extends SideQ {
  logSumExp: Tensor;
  /** For each row of Q its row here. Default: they have the same rows. */
  rowOf?: Uint32Array | undefined;
}

/** Tokens to score, and after which rows they come. */
interface Targets {
  readonly targets: Tensor;
  readonly picks: PickRows | null;
}

/** Fills Q's scores (log-probabilities if there are targets) and the divergence. */
function compare(
  p: SideP,
  q: SideQ,
  given: Targets | null,
  out: LogitScores & { kl: Tensor },
  settings: KlSettings,
): void {
  const { backend, dtype } = q.hidden;
  const { temperature } = settings;
  const vocabulary = vocabularyOf(q.head);
  const blocks = Math.ceil(vocabulary / blockColumns);
  const { rowChunks, columnChunks } = cutIntoChunks(backend, q.hidden.rows, vocabulary, dtype, settings);
  // Several targets of a row are picked and scored apart from what the row has by itself.
  const picks = given?.picks ?? null;
  const make = (count: number, label: string): Tensor => empty(backend, [count], dtype, memoryLabel("head", label));
  const ofPicks = picks && {
    sums: emptySums(q.hidden, q.hidden.rows, vocabulary),
    picked: make(picks.rowOf.rows, "picked logits"),
  };
  for (const part of rowChunks)
    scope(() => {
      const slice = (tensor: Tensor): Tensor => tensor.sliceRows(part.start, part.count);
      const logits = (side: SideQ, columns: IndexRange): Tensor =>
        logitsOf(slice(side.hidden), side.head, sliceBatchRows(side.rows, part), columns);
      const { entropy, logSumExp } = out;
      const logProbs = ofPicks === null ? slice(out.logProbs) : make(part.count, "unused");
      const scores = { logProbs, entropy: slice(entropy), logSumExp: slice(logSumExp) };
      const sums = ofPicks === null ? emptySums(q.hidden, part.count, vocabulary) : slice(ofPicks.sums);
      const picked = make(part.count, "picked logits");
      const ownP = rowsOfP(p, part, q.hidden.rows);
      // If one chunk holds the vocabulary, its logits are still there in the second pass.
      const whole = columnChunks.length === 1 ? logits(q, columnChunks[0]) : null;
      for (const columns of columnChunks)
        scope(() => {
          const own = whole ?? logits(q, columns);
          sumLogits(own, sums, columns, temperature);
          if (given === null) return;
          if (picks === null || ofPicks === null) pickLogits(own, slice(given.targets), picked, columns, temperature);
          else
            pickLogits(own, given.targets, ofPicks.picked, columns, temperature, {
              rowOf: picks.rowOf,
              firstRow: part.start,
            });
        });
      scorePicked(sums, picked, scores);
      const kl = slice(out.kl);
      const terms =
        blocks === 1
          ? kl.view([part.count, 1])
          : empty(backend, [part.count, blocks], dtype, memoryLabel("head", "KL of blocks"));
      for (const columns of columnChunks)
        scope(() => {
          const logitsP = logitsOf(ownP.hidden, p.head, null, columns);
          const logitsQ = whole ?? logits(q, columns);
          const { rowOf, params } = bindPickRows(ownP.picks, scores.logSumExp);
          run(
            klTermsKernel,
            { logitsP, logitsQ, rowOf, logSumExpP: ownP.logSumExp, logSumExpQ: scores.logSumExp, sums: terms },
            {
              ...{ ...params, ...columnParams(logitsQ, columns) },
              ...{ firstBlock: columns.start / blockColumns, blocks, temperature },
            },
            { constants: laneConstants(backend) },
          );
        });
      if (blocks > 1) run(klTotalKernel, { sums: terms, kl }, { blocks });
    });
  if (picks === null || ofPicks === null) return;
  const [entropy, logSumExp] = ["unused", "unused"].map((label) => make(picks.rowOf.rows, label));
  scorePicked(ofPicks.sums, ofPicks.picked, { logProbs: out.logProbs, entropy, logSumExp }, picks);
}

/**
 * What a chunk of rows of Q needs of P. If it is all rows of Q, P's logits are computed once for all rows of Q that share a row
 * of P; else once for each row of Q, so that no more of them are needed than Q has in the chunk.
 */
function rowsOfP(
  { hidden, logSumExp, rowOf }: SideP,
  { start, count }: IndexRange,
  all: number,
): { hidden: Tensor; logSumExp: Tensor; picks: PickRows | null } {
  if (rowOf === undefined)
    return { hidden: hidden.sliceRows(start, count), logSumExp: logSumExp.sliceRows(start, count), picks: null };
  if (count === all && hidden.rows <= count) {
    const table = fromArray(hidden.backend, rowOf, [count], "u32", "rows of P");
    return { hidden, logSumExp, picks: { rowOf: table } };
  }
  const own = rowOf.subarray(start, start + count);
  return { hidden: gatherRows(hidden, own), logSumExp: gatherRows(logSumExp, own), picks: null };
}

export interface Comparison {
  /** [T, C], the hidden states of the perturbed policy. */
  hiddenQ: Tensor;
  headQ: Parameter;
  /** Which grid point each row of hiddenQ belongs to; null with a plain head. */
  rows: BatchRows;
  /** [S, C], the hidden states of the reference for the same tokens. */
  hiddenP: Tensor;
  /** A weight without slots. */
  headP: Parameter;
  /** [S], stored when the reference was scored by `head`. */
  logSumExpP: Tensor;
  /** [T], for each row of hiddenQ that of hiddenP. Default: S = T, and they have the same rows. */
  rowOfP?: Uint32Array;
  /** [N] u32 */
  targets: Tensor;
  /** [N], for each target the row of hiddenQ after which it comes. Default: N = T, and one comes after each. */
  rowOfTarget?: Uint32Array;
  /** Above 0. */
  temperature: number;
}

/**
 * The results of `head` for Q, bit for bit, and KL(p ‖ q) per row. Forward only. If one chunk holds the vocabulary, Q's
 * logits are computed only once.
 * @returns logProbs [N], and entropy, logSumExp of Q and kl, each [T]
 * @throws ShapeError when the shapes do not match
 */
export function klAndScore(comparison: Comparison, chunks: ChunkSettings = {}): LogitScores & { kl: Tensor } {
  const { hiddenQ, headQ, rows, hiddenP, headP, logSumExpP, rowOfP, targets, rowOfTarget, temperature } = comparison;
  if (headP.kind === "slots")
    throw new Error("klAndScore: headP: the reference has a plain weight, this one is perturbed");
  const shapes = {
    hiddenP: hiddenP.shape,
    headP: shapeOfParameter(headP),
    logSumExpP: logSumExpP.shape,
    hiddenQ: hiddenQ.shape,
  };
  const rowsP = rowOfP === undefined ? {} : { hiddenP: [hiddenQ.rows, hiddenP.rowSize], logSumExpP: [hiddenQ.rows] };
  checkBothHeads("klAndScore", { ...shapes, ...rowsP, headQ: shapeOfParameter(headQ) }, temperature);
  if (rowOfP !== undefined) {
    expectShape("klAndScore: logSumExpP", logSumExpP.shape, [hiddenP.rows], "It has a number for each row of hiddenP.");
    expectRowsBelow("klAndScore: rowOfP", rowOfP, hiddenQ.rows, hiddenP.rows);
  }
  const count = rowOfTarget === undefined ? hiddenQ.rows : rowOfTarget.length;
  expectShape("klAndScore: targets", targets.shape, [count], "Each row of hiddenQ has one token to score.");
  if (rowOfTarget !== undefined) expectRowsBelow("klAndScore: rowOfTarget", rowOfTarget, count, hiddenQ.rows);
  return noGradient(() => {
    const { backend, dtype } = hiddenQ;
    const out = {
      ...emptyScores(hiddenQ),
      logProbs: empty(backend, [count], dtype, "logProbs"),
      kl: empty(backend, [hiddenQ.rows], dtype, "kl"),
    };
    const p = { hidden: hiddenP, head: headP, rows: null, logSumExp: logSumExpP, rowOf: rowOfP };
    scope(() => {
      const picks = rowOfTarget && { rowOf: fromArray(backend, rowOfTarget, [count], "u32", "rows of targets") };
      compare(p, { hidden: hiddenQ, head: headQ, rows }, { targets, picks: picks ?? null }, out, {
        temperature,
        ...chunks,
      });
    });
    return out;
  });
}

function expectRowsBelow(what: string, table: Uint32Array, count: number, below: number): void {
  if (table.length !== count) throw new ShapeError(`${what}: expected ${count} rows, got ${table.length}.`);
  for (const row of table)
    if (row >= below) throw new ShapeError(`${what}: row ${row}: expected a number below ${below}.`);
}
