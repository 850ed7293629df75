// Kullback–Leibler divergence between two heads, exact over the vocabulary. With d = ln q − ln p,
//   KL(p ‖ q) = Σ p·(e^d − 1 − d),
// each term of which is at least 0 and of second order in d. So nothing cancels, and the sum is exactly 0 if q equals p
// bit for bit. Both log-sum-exps come first (P's is given, kept from when P was scored), then a second pass over the
// logits' chunks.

import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { memoryLabel } from "../../memory-purpose.ts";
import { defineOp, expectRank, expectShape } from "../../op.ts";
import { type BatchRows, type Parameter, shapeOfParameter } from "../../parameters.ts";
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
  emptyScores,
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
  vocabularyOf,
} from "./logits.ts";
import { logitsBackward } from "./logits-backward.ts";
import { type LogitsReader, readLogits } from "./read-logits.ts";

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
    const p = { hidden: hiddenP, head: headP, logSumExp: logSumExpP };
    const { temperature } = settings;
    const out = { logProbs, entropy, logSumExp: logSumExpQ, kl };
    readLogits(hiddenQ, headQ, null, [comparer(p, hiddenQ, null, out, temperature)], settings);
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

interface SideP {
  readonly hidden: Tensor;
  readonly head: Parameter;
  readonly logSumExp: Tensor;
  /** For each row of Q its row here, or `noRowOfP`. Default: they have the same rows. */
  readonly rowOf?: Uint32Array | undefined;
}

/** Tokens to score, and after which rows they come: one after each if `rowOf` is null. */
interface Targets {
  readonly targets: Tensor;
  readonly rowOf: Tensor | null;
}

/** In `rowOfP`: this row of Q is compared with none, and its divergence is undefined. */
export const noRowOfP = 0xffffffff;

/**
 * Reads Q's logits: fills its scores (log-probabilities if there are targets) and the divergence.
 * @returns  its result is the divergence: `out.kl`, or its rows in another order in a new tensor
 */
function comparer(
  p: SideP,
  hiddenQ: Tensor,
  given: Targets | null,
  out: LogitScores & { kl: Tensor },
  temperature: number,
): LogitsReader {
  const { backend, dtype } = hiddenQ;
  const make = (shape: Shape, label: string): Tensor => empty(backend, shape, dtype, memoryLabel("head", label));
  const rowOfTarget = given?.rowOf ?? null;
  const picked = make([given?.targets.rows ?? hiddenQ.rows], "picked logits");
  /** For each row of Q where its divergence lies in `out.kl`; null: in its own place. */
  let placeOfKl: Uint32Array | null = null;
  return {
    temperature,
    read({ logits, rows: { start, count }, columns }) {
      if (given === null) return;
      const { targets } = given;
      if (rowOfTarget === null)
        pickLogits(logits, targets.sliceRows(start, count), picked.sliceRows(start, count), columns, temperature);
      else pickLogits(logits, targets, picked, columns, temperature, { rowOf: rowOfTarget, firstRow: start });
    },
    again: {
      wanted({ start, count }, sums) {
        const slice = (tensor: Tensor): Tensor => tensor.sliceRows(start, count);
        // Several targets of a row are scored apart from what the row has by itself, once all rows were read.
        const [ofRows, logProbs] = rowOfTarget === null ? [picked, out.logProbs].map(slice) : unused(make, count);
        scorePicked(sums, ofRows, { logProbs, entropy: slice(out.entropy), logSumExp: slice(out.logSumExp) });
        return p.rowOf === undefined ? null : placesWithRow(p.rowOf.subarray(start, start + count));
      },
      begin({ start, count }, places) {
        if (places !== null) {
          placeOfKl ??= Uint32Array.from({ length: hiddenQ.rows }, (_, row) => row);
          for (const [i, place] of places.entries()) placeOfKl[start + place] = start + i;
        }
        const rows = places?.length ?? count;
        const ofP = rowsOfP(p, { start, count }, places);
        const ofQ = out.logSumExp.sliceRows(start, count);
        const logSumExpQ = places === null ? ofQ : gatherRows(ofQ, places);
        const kl = out.kl.sliceRows(start, rows);
        const blocks = Math.ceil(vocabularyOf(p.head) / blockColumns);
        const terms = blocks === 1 ? kl.view([rows, 1]) : make([rows, blocks], "KL of blocks");
        const { rowOf, params } = bindPickRows(ofP.picks, logSumExpQ);
        return {
          read(logitsQ, columns) {
            const logitsP = logitsOf(ofP.hidden, p.head, null, columns);
            run(
              klTermsKernel,
              { logitsP, logitsQ, rowOf, logSumExpP: ofP.logSumExp, logSumExpQ, sums: terms },
              {
                ...{ ...params, ...columnParams(logitsQ, columns) },
                ...{ firstBlock: columns.start / blockColumns, blocks, temperature },
              },
              { constants: laneConstants(backend) },
            );
          },
          end() {
            if (blocks > 1) run(klTotalKernel, { sums: terms, kl }, { blocks });
          },
        };
      },
    },
    end(sums) {
      if (rowOfTarget !== null) {
        const [entropy, logSumExp] = unused(make, rowOfTarget.rows);
        scorePicked(sums, picked, { logProbs: out.logProbs, entropy, logSumExp }, { rowOf: rowOfTarget });
      }
      return [placeOfKl === null ? out.kl : gatherRows(out.kl, placeOfKl)];
    },
  };
}

const unused = (make: (shape: Shape, label: string) => Tensor, count: number): Tensor[] =>
  ["unused", "unused"].map((label) => make([count], label));

/** The places with a row of P, or null if all have one. */
function placesWithRow(rowOf: Uint32Array): Uint32Array | null {
  const places = rowOf.reduce<number[]>((found, row, place) => {
    if (row !== noRowOfP) found.push(place);
    return found;
  }, []);
  return places.length === rowOf.length ? null : Uint32Array.from(places);
}

/**
 * What a chunk of rows of Q needs of P: each row of P once, even if several rows of Q share it.
 * @param places  those of the rows that are compared; null: all of the chunk
 */
function rowsOfP(
  { hidden, logSumExp, rowOf }: SideP,
  { start, count }: IndexRange,
  places: Uint32Array | null,
): { hidden: Tensor; logSumExp: Tensor; picks: PickRows | null } {
  if (rowOf === undefined)
    return { hidden: hidden.sliceRows(start, count), logSumExp: logSumExp.sliceRows(start, count), picks: null };
  const chunk = rowOf.subarray(start, start + count);
  const own = places === null ? chunk : places.map((place) => chunk[place]);
  const distinct = Uint32Array.from(new Set(own.filter((row) => row !== noRowOfP))).sort();
  const at = new Map([...distinct].map((row, place) => [row, place]));
  const table = own.map((row) => at.get(row) ?? noRowOfP);
  const picks = { rowOf: fromArray(hidden.backend, table, [table.length], "u32", "rows of P") };
  return distinct.length === hidden.rows
    ? { hidden, logSumExp, picks }
    : { hidden: gatherRows(hidden, distinct), logSumExp: gatherRows(logSumExp, distinct), picks };
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
  /**
   * [T], for each row of hiddenQ that of hiddenP; or `noRowOfP`, with which it is compared with none, and its kl is undefined.
   * Default: S = T, and they have the same rows.
   */
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
  const { hiddenQ, headQ, rows } = comparison;
  return scope(() => {
    const [[logProbs, entropy, logSumExp, kl]] = readLogits(hiddenQ, headQ, rows, [klReader(comparison)], chunks);
    return { logProbs, entropy, logSumExp, kl };
  });
}

/**
 * `klAndScore` for logits that others read too (read-logits.ts).
 * @returns its results are logProbs, entropy, logSumExp and kl
 */
export function klReader(comparison: Omit<Comparison, "rows">): LogitsReader {
  const { hiddenQ, headQ, hiddenP, headP, logSumExpP, rowOfP, targets, rowOfTarget, temperature } = comparison;
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
    expectRowsBelow("klAndScore: rowOfP", rowOfP, hiddenQ.rows, hiddenP.rows, noRowOfP);
  }
  const count = rowOfTarget === undefined ? hiddenQ.rows : rowOfTarget.length;
  expectShape("klAndScore: targets", targets.shape, [count], "Each row of hiddenQ has one token to score.");
  if (rowOfTarget !== undefined) expectRowsBelow("klAndScore: rowOfTarget", rowOfTarget, count, hiddenQ.rows);
  const { backend, dtype } = hiddenQ;
  const out = {
    ...emptyScores(hiddenQ),
    logProbs: empty(backend, [count], dtype, "logProbs"),
    kl: empty(backend, [hiddenQ.rows], dtype, "kl"),
  };
  const p = { hidden: hiddenP, head: headP, logSumExp: logSumExpP, rowOf: rowOfP };
  const rowOf = rowOfTarget === undefined ? null : fromArray(backend, rowOfTarget, [count], "u32", "rows of targets");
  const reader = comparer(p, hiddenQ, { targets, rowOf }, out, temperature);
  return {
    ...reader,
    end(sums) {
      const [kl] = reader.end(sums);
      return [out.logProbs, out.entropy, out.logSumExp, kl];
    },
  };
}

/** @param or  another number that is allowed */
function expectRowsBelow(what: string, table: Uint32Array, count: number, below: number, or = 0): void {
  if (table.length !== count) throw new ShapeError(`${what}: expected ${count} rows, got ${table.length}.`);
  for (const row of table)
    if (row >= below && row !== or) throw new ShapeError(`${what}: row ${row}: expected a number below ${below}.`);
}
