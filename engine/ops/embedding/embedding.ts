// Embedding lookup, and its gradient without atomics: the host sorts the ids, so that the tokens of each distinct id
// are neighbours, and one invocation per column adds them up in order.

import { fillKernel } from "../../accumulate.ts";
import { shouldRecord } from "../../autograd.ts";
import { bytesPerElement } from "../../dtype.ts";
import { ShapeError } from "../../errors.ts";
import { defineKernel } from "../../kernel.ts";
import { defineOp, expectRank } from "../../op.ts";
import {
  asParameter,
  type BatchRows,
  forEachGroup,
  forEachRun,
  hasHalfPanels,
  type Parameter,
} from "../../parameters.ts";
import { areWhole, groupedRows, reach } from "../../row-tables.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, fromArray, type Tensor } from "../../tensor.ts";
import {
  elementConstants,
  elementForm,
  elementVariants,
  elementWorkgroups,
  roundsOf,
  runConstants,
  runForm,
  runVariants,
} from "../elementwise/work-split.ts";
import * as cpu from "./embedding.cpu.ts";

// Over the segments of the table, each dispatch writes the tokens whose ids lie in it; together they write every token
// once.
const contract = {
  axes: { rows: "map", vocabulary: "reduce" },
  bindings: {
    ids: { access: "read", axis: "rows" },
    table: { access: "read", axis: "vocabulary" },
    y: { access: "write", axis: "rows" },
  },
  params: { width: "u32" },
} as const;
const embeddingKernel = defineKernel({
  name: "embedding",
  ...contract,
  cpu: cpu.embedding,
  wgsl: new URL("./embedding.wgsl", import.meta.url),
  uses: ["flat-workgroup", "one-weight"],
  constants: runConstants,
  variants: runVariants,
  form: (p, style) => runForm(style, p.width, p.tableBase, p.yBase),
  workgroups: ({ rows, width }, constants) => elementWorkgroups(rows * width, constants),
});
/** For tokens of several slots: an entry of the table of slots for each token (engine/row-tables.ts). */
const embeddingSlotsKernel = defineKernel({
  name: "embeddingSlots",
  axes: contract.axes,
  bindings: { ...contract.bindings, tiles: { access: "read" } },
  params: { ...contract.params, stride: "u32" },
  cpu: cpu.embeddingSlots,
  wgsl: new URL("./embedding.wgsl", import.meta.url),
  uses: ["flat-workgroup", "slot-of-row"],
  constants: { ...runConstants, TILES: 3 },
  variants: runVariants,
  form: (p, style) => runForm(style, p.width, p.tableBase, p.yBase, p.stride),
  workgroups: ({ rows, width }, constants) => elementWorkgroups(rows * width, constants),
});

// A table in f16 panels, the layout of the head's product: so a tied embedding needs one layout only.
const halfContract = {
  axes: { rows: "map", panels: "reduce" },
  bindings: {
    ids: { access: "read", axis: "rows" },
    table: { access: "read", axis: "panels" },
    y: { access: "write", axis: "rows" },
  },
  params: { width: "u32" },
} as const;
const embeddingHalfKernel = defineKernel({
  name: "embeddingHalf",
  ...halfContract,
  cpu: cpu.embeddingHalf,
  wgsl: new URL("./embedding-half.wgsl", import.meta.url),
  uses: ["flat-workgroup", "one-weight"],
  constants: { ROUNDS: 16 },
  variants: [{ ROUNDS: 1 }],
  form: (_, style) => ({ ROUNDS: roundsOf(style) }),
  workgroups: ({ rows, width }, { ROUNDS }) => [Math.ceil((rows * width) / (64 * Number(ROUNDS)))],
});
const embeddingSlotsHalfKernel = defineKernel({
  name: "embeddingSlotsHalf",
  axes: halfContract.axes,
  bindings: { ...halfContract.bindings, tiles: { access: "read" } },
  params: { ...halfContract.params, stride: "u32" },
  cpu: cpu.embeddingSlotsHalf,
  wgsl: new URL("./embedding-half.wgsl", import.meta.url),
  uses: ["flat-workgroup", "slot-of-row"],
  constants: { ROUNDS: 16, TILES: 3 },
  variants: [{ ROUNDS: 1 }],
  form: (_, style) => ({ ROUNDS: roundsOf(style) }),
  workgroups: ({ rows, width }, { ROUNDS }) => [Math.ceil((rows * width) / (64 * Number(ROUNDS)))],
});

const embeddingBackwardKernel = defineKernel({
  name: "embeddingBackward",
  axes: { rows: "reduce", vocabulary: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    /** {id, first, end} of each distinct id: its tokens are order[first] … order[end − 1]. */
    runs: { access: "read" },
    order: { access: "read" },
    dTable: { access: "gradient", axis: "vocabulary" },
  },
  params: { width: "u32", distinct: "u32" },
  cpu: cpu.embeddingBackward,
  wgsl: new URL("./embedding-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.width, p.dyBase, p.dTableBase),
  workgroups: ({ distinct, width }, constants) => elementWorkgroups(distinct * width, constants),
});

/** Numbers in an entry of `runs`. */
const runLength = 3;

/** Token ids, on the device and, if a gradient is wanted, also on the host. */
export interface EmbeddingIds {
  readonly tensor: Tensor; // [T] u32
  readonly host: Uint32Array | null;
}

/** The op below `embedding`, for a plain table. */
export const embeddingOp = defineOp<"ids" | "table", "y", never, { host: Uint32Array | null }>({
  name: "embedding",
  shapes: ({ ids, table }, { host }) => {
    expectRank("embedding: ids", ids, "T");
    expectRank("embedding: table", table, "V, C");
    if (host !== null) checkIds(host, ids[0], table[0]);
    return { y: [ids[0], table[1]] };
  },
  forward: (runKernel, { ids, table }, { y }) =>
    runKernel(embeddingKernel, { ids, table, y }, { width: table.rowSize }),
  // dTable[v] = Σ over tokens with id v, ascending, of dy
  vjp: (runKernel, { table }, { y: dy }, d, { host }) => {
    const target = d.table;
    if (target === undefined) return;
    if (host === null) throw new Error("embedding: a gradient needs the ids on the host");
    const { backend, rowSize: width } = table;
    if (!target.add) runKernel(fillKernel, { y: target.tensor }, { rowSize: width, value: 0 });
    if (host.length === 0) return;
    // In the worst case every token is a run, and all runs must fit one binding; that limits the tokens per dispatch.
    // If the tokens of an id are cut, the sum continues from the stored value and gives the same bits as one dispatch.
    const most = Math.floor(backend.limits.maxBufferBytes / (runLength * bytesPerElement.u32));
    const sorted = sortIds(host);
    scope(() => {
      for (let from = 0; from < sorted.length; from += most) {
        const order = sorted.subarray(from, from + most);
        const runs = runsOf(host, order);
        runKernel(
          embeddingBackwardKernel,
          {
            dy,
            runs: fromArray(backend, runs, [runs.length], "u32", "embedding.runs"),
            order: fromArray(backend, order, [order.length], "u32", "embedding.order"),
            dTable: { tensor: target.tensor, add: true },
          },
          { width, distinct: runs.length / runLength },
        );
      }
    });
  },
});

function checkIds(host: Uint32Array, tokens: number, vocabulary: number): void {
  if (host.length !== tokens)
    throw new ShapeError(`embedding: ids: expected ${tokens} on the host, got ${host.length}.`);
  const bad = host.findIndex((id) => id >= vocabulary);
  if (bad >= 0)
    throw new ShapeError(`embedding: ids: position ${bad}: expected an id below ${vocabulary}, got ${host[bad]}.`);
}

/** Tokens ordered by id, then by position. */
function sortIds(ids: Uint32Array): Uint32Array {
  // As whole numbers id · T + position, which sort without a function that compares.
  const { length } = ids;
  return Uint32Array.from(Float64Array.from(ids, (id, i) => id * length + i).sort(), (key) => key % length);
}

/** {id, first, end} of each distinct id in sorted tokens. */
function runsOf(ids: Uint32Array, order: Uint32Array): Uint32Array {
  const runs: number[] = [];
  for (let i = 0; i < order.length; i++) {
    const id = ids[order[i]];
    if (i === 0 || id !== ids[order[i - 1]]) runs.push(id, i, i);
    runs[runs.length - 1] = i + 1;
  }
  return Uint32Array.from(runs);
}

function onDevice(ids: readonly number[] | Uint32Array, table: Parameter): EmbeddingIds {
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  if (bad >= 0)
    throw new ShapeError(`embedding: ids: position ${bad}: expected a whole number from 0 on, got ${ids[bad]}.`);
  if (table.kind !== "tensor")
    throw new Error("embedding: ids: perturbed and f16 tables take ids that are on the device already.");
  return {
    tensor: fromArray(table.tensor.backend, ids, [ids.length], "u32", "embedding.ids"),
    host: Uint32Array.from(ids),
  };
}

/**
 * y[t] = table[ids[t]].
 * @param ids    [T] u32, on the device and the host; or a list, which is copied to the device
 * @param table  [V, C]; perturbed tables (slots) and tables in f16 panels are forward only
 * @param rows   which grid point each token belongs to; null (the default) with a plain table
 * @returns      [T, C] f32 (or f64)
 * @throws ShapeError when an id that the host knows is not a row of the table
 */
export function embedding(
  ids: EmbeddingIds | readonly number[] | Uint32Array,
  tableGiven: Tensor | Parameter,
  rows: BatchRows = null,
): Tensor {
  const table = asParameter(tableGiven);
  const { tensor, host } = "host" in ids ? ids : onDevice(ids, table);
  if (table.kind === "tensor") return embeddingOp({ ids: tensor, table: table.tensor }, { host }).y;
  if (shouldRecord([tensor]))
    throw new Error("embedding: perturbed tables have no gradient, nor have f16 panels: run it under noGradient");
  const [vocabulary, width] = table.shape;
  if (host !== null) checkIds(host, tensor.rows, vocabulary);
  const isHalf = hasHalfPanels(table);
  const dtype = table.kind === "moved" ? table.dtype : isHalf ? "f32" : dtypeOfRows(table);
  const y = empty(tensor.backend, [tensor.rows, width], dtype, "embedding.y");
  if (lookUpSlots(tensor, table, y, rows, isHalf)) return y;
  if (table.kind === "moved") {
    forEachRun("embedding", table, rows, tensor.rows, ({ start, count, point }) =>
      table.lookUp(point, tensor.sliceRows(start, count), y.sliceRows(start, count)),
    );
    return y;
  }
  forEachGroup("embedding", table, rows, tensor.rows, (own, start, count) => {
    const [ownIds, ownY] = [tensor.sliceRows(start, count), y.sliceRows(start, count)];
    if (isHalf && own.panels !== null) run(embeddingHalfKernel, { ids: ownIds, table: own.panels, y: ownY }, { width });
    else if (own.rows !== null) run(embeddingKernel, { ids: ownIds, table: own.rows, y: ownY }, { width });
    else throw new Error("embedding: the weight has neither rows nor f16 panels");
  });
  return y;
}

function dtypeOfRows(table: Parameter & { readonly kind: "forward" | "slots" }): "f32" | "f64" {
  const [first] = table.kind === "forward" ? [table.weight] : table.slots.values();
  return first?.rows?.dtype === "f64" ? "f64" : "f32";
}

/** y[t] = table[ids[t]] for a plain table, without checks or gradient. */
export function lookUp(ids: Tensor, table: Tensor, y: Tensor): void {
  run(embeddingKernel, { ids, table, y }, { width: table.rowSize });
}

/** The tokens of all grid points in one dispatch; false, and nothing is done, if that is not possible. */
function lookUpSlots(ids: Tensor, table: Parameter, y: Tensor, rows: BatchRows, isHalf: boolean): boolean {
  const group = groupedRows(rows, [table]);
  const reached = group === null ? null : reach(table, isHalf ? "panels" : "rows");
  if (group === null || reached === null || !areWhole([ids, y])) return false;
  const entries = group.tables.tilesOf("embedding", group.rows, ids.rows, 1);
  if (entries === null) return false;
  const bindings = { ids, table: reached.first, y, tiles: entries.tiles };
  const params = { width: y.rowSize, stride: reached.stride };
  if (isHalf) run(embeddingSlotsHalfKernel, bindings, params);
  else run(embeddingSlotsKernel, bindings, params);
  return true;
}
