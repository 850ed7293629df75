// The kernels of attention (attention.ts). Forward, dQ and dK/dV exist in two variants that give the same bits.
// `attention.wgsl` and its two backward neighbours use one invocation per query or key, and run on every adapter.
// `attention-tile*.wgsl` use a subgroup of eight lanes per tile of queries or keys, and are several times as fast on
// lavapipe.
import { type AdapterStyle, type Constants, defineKernel } from "../../kernel.ts";
import * as cpu from "./attention.cpu.ts";

/** Query heads, key heads and size of a head. */
export interface Heads {
  heads: number;
  keyHeads: number;
  headSize: number;
}

const workgroupSize = 64;
/**
 * Largest number of vectors of q that one invocation of a software adapter holds if it processes several heads: with
 * more, compilers take tens of seconds.
 */
const mostVectors = 16;

const headParams = { heads: "u32", keyHeads: "u32", headSize: "u32" } as const;

// The parts that the variants of a kernel share.

export const forward = {
  axes: { tokens: "map", slots: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    spans: { access: "read", axis: "tokens" },
    y: { access: "update", axis: "tokens" },
    logSumExp: { access: "update", axis: "tokens" },
    sums: { access: "update", axis: "tokens" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attention,
} as const;

export const backwardQuery = {
  axes: { tokens: "map", slots: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    dy: { access: "read", axis: "tokens" },
    statistics: { access: "read", axis: "tokens" },
    spans: { access: "read", axis: "tokens" },
    dq: { access: "gradient", axis: "tokens" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attentionBackwardQuery,
} as const;

export const backwardKey = {
  axes: { slots: "map", tokens: "reduce" },
  bindings: {
    q: { access: "read", axis: "tokens" },
    keys: { access: "read", axis: "slots" },
    values: { access: "read", axis: "slots" },
    dy: { access: "read", axis: "tokens" },
    statistics: { access: "read", axis: "tokens" },
    querySpans: { access: "read", axis: "slots" },
    dKeys: { access: "gradient", axis: "slots" },
    dValues: { access: "gradient", axis: "slots" },
  },
  params: { ...headParams, scale: "f32" },
  cpu: cpu.attentionBackwardKey,
} as const;

// One invocation per token and HEADS of its query heads, or per key.

const vectorDefaults = { Vector: "vec4f", WIDTH: 4, VECTORS: 4 };
/** Other head sizes: 64, 128, 14. */
const vectorVariants: readonly Constants[] = [
  { VECTORS: 16 },
  { VECTORS: 32 },
  { Vector: "vec2f", WIDTH: 2, VECTORS: 7 },
];
const onceVariants: readonly Constants[] = [{ CONTINUES: false }, ...vectorVariants];
/** Other numbers of heads per invocation too. */
const groupVariants: readonly Constants[] = [
  ...onceVariants.map((variant) => ({ ...variant, HEADS: 1 })),
  { VECTORS: 2, HEADS: 7 },
];

const perQuery = ({ tokens, heads }: { tokens: number; heads: number }, { HEADS }: Constants): [number] => [
  Math.ceil((tokens * heads) / Number(HEADS ?? 1) / workgroupSize),
];

const perQueryForward = {
  ...forward,
  wgsl: new URL("./attention.wgsl", import.meta.url),
  workgroups: perQuery,
} as const;
const perQueryUses = ["flat-workgroup", "key-range", "is-finite"];

const forwardKernel = defineKernel({
  ...perQueryForward,
  name: "attention",
  uses: [...perQueryUses, "key-loads", "output"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: true, Stored: "Vector", Output: "Vector" },
  variants: groupVariants,
});

// Keys and values in f16: in fours, and in twos for heads of another size. With one cell of slots y may be f16 too.

const halfFoursKernel = defineKernel({
  ...perQueryForward,
  name: "attentionHalfFours",
  uses: [...perQueryUses, "key-loads-half-fours", "output"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: true, Stored: "vec2u", Output: "Vector" },
  variants: [{ CONTINUES: false }, { VECTORS: 16 }, { VECTORS: 32, HEADS: 1 }],
});

const halfFoursToHalfKernel = defineKernel({
  ...perQueryForward,
  name: "attentionHalfFoursToHalf",
  cpu: cpu.attentionToHalf,
  uses: [...perQueryUses, "key-loads-half-fours", "output-half", "halves"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: false, Stored: "vec2u", Output: "vec2u" },
  variants: [{ VECTORS: 16 }, { VECTORS: 32, HEADS: 1 }],
});

const halfTwosKernel = defineKernel({
  ...perQueryForward,
  name: "attentionHalfTwos",
  uses: [...perQueryUses, "key-loads-half-twos", "output"],
  constants: { Vector: "vec2f", WIDTH: 2, VECTORS: 7, HEADS: 2, CONTINUES: true, Stored: "u32", Output: "Vector" },
  variants: [{ CONTINUES: false, HEADS: 1 }],
});

const queryKernel = defineKernel({
  ...backwardQuery,
  name: "attentionBackwardQuery",
  wgsl: new URL("./attention-backward-query.wgsl", import.meta.url),
  uses: ["flat-workgroup", "key-range"],
  constants: { ...vectorDefaults, HEADS: 2, CONTINUES: true },
  variants: groupVariants,
  workgroups: perQuery,
});

const keyKernel = defineKernel({
  ...backwardKey,
  name: "attentionBackwardKey",
  wgsl: new URL("./attention-backward-key.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: { ...vectorDefaults, CONTINUES: true },
  variants: onceVariants,
  workgroups: ({ slots, keyHeads }) => [Math.ceil((slots * keyHeads) / workgroupSize)],
});

export const statistics = {
  axes: { tokens: "map" },
  bindings: {
    y: { access: "read", axis: "tokens" },
    dy: { access: "read", axis: "tokens" },
    logSumExp: { access: "read", axis: "tokens" },
    statistics: { access: "write", axis: "tokens" },
  },
  params: headParams,
  wgsl: new URL("./attention-statistics.wgsl", import.meta.url),
  constants: vectorDefaults,
  variants: vectorVariants,
  workgroups: perQuery,
} as const;

export const statisticsKernel = defineKernel({
  ...statistics,
  name: "attentionStatistics",
  cpu: cpu.attentionStatistics,
  uses: ["flat-workgroup", "upstream"],
});

// A subgroup of eight per 8 · ROWS queries of one key head, or per as many keys.

const lanes = 8;
const tileDefaults = { PIECES: 2, ROWS: 2, CONTINUES: true };
/** Other head sizes: 64, 128. */
const tileVariants: readonly Constants[] = [{ CONTINUES: false }, { PIECES: 8 }, { PIECES: 16, ROWS: 1 }];

const tilesOf = (items: number, { ROWS }: Constants): number => Math.ceil(items / (lanes * Number(ROWS)));
const tileUses = ["flat-workgroup", "key-range", "key-runs", "is-finite"];

const onTokens = (
  { tokens, heads, keyHeads }: { tokens: number; heads: number; keyHeads: number },
  constants: Constants,
): [number] => [keyHeads * tilesOf((tokens * heads) / keyHeads, constants)];

const forwardTileKernel = defineKernel({
  ...forward,
  name: "attentionTile",
  wgsl: new URL("./attention-tile.wgsl", import.meta.url),
  uses: [...tileUses, "key-loads", "output-ones"],
  constants: { ...tileDefaults, Stored: "f32", Vector: "f32", Output: "f32" },
  variants: tileVariants,
  workgroups: onTokens,
});

const halfTileKernel = defineKernel({
  ...forward,
  name: "attentionTileHalf",
  wgsl: new URL("./attention-tile.wgsl", import.meta.url),
  uses: [...tileUses, "key-loads-half", "output-ones"],
  constants: { ...tileDefaults, Stored: "u32", Output: "f32" },
  variants: tileVariants,
  workgroups: onTokens,
});

const halfTileToHalfKernel = defineKernel({
  ...forward,
  name: "attentionTileHalfToHalf",
  cpu: cpu.attentionToHalf,
  wgsl: new URL("./attention-tile.wgsl", import.meta.url),
  uses: [...tileUses, "key-loads-half", "output-half-ones", "halves"],
  constants: { ...tileDefaults, CONTINUES: false, Stored: "u32", Output: "vec2u" },
  variants: tileVariants.slice(1),
  workgroups: onTokens,
});

const onSlots = ({ slots, keyHeads }: { slots: number; keyHeads: number }, constants: Constants): [number] => [
  keyHeads * tilesOf(slots, constants),
];

// The backward pass: a lane loads four numbers at once, LOADS times for a head. Variants for heads of 64 and 128.

const queryTileKernel = defineKernel({
  ...backwardQuery,
  name: "attentionTileBackwardQuery",
  wgsl: new URL("./attention-tile-backward-query.wgsl", import.meta.url),
  uses: ["flat-workgroup", "balanced", "key-range", "key-runs", "shared-vector"],
  constants: { PIECES: 8, ROWS: 4, LOADS: 2, CONTINUES: true },
  variants: [{ CONTINUES: false }, { PIECES: 16, ROWS: 2, LOADS: 4 }],
  workgroups: onTokens,
});

const keyTileKernel = defineKernel({
  ...backwardKey,
  name: "attentionTileBackwardKey",
  wgsl: new URL("./attention-tile-backward-key.wgsl", import.meta.url),
  uses: ["flat-workgroup", "balanced", "shared-vector"],
  constants: { PIECES: 8, ROWS: 2, LOADS: 2, CONTINUES: true },
  variants: [{ CONTINUES: false }, { PIECES: 16, ROWS: 1, LOADS: 4 }],
  workgroups: onSlots,
});

// Small heads: two keys, or two heads, at a time. Variants for heads of 16 and 32.

const pairsDefaults = { PIECES: 2, ROWS: 2, LOADS: 1, CONTINUES: true };
const pairsVariants: readonly Constants[] = [{ CONTINUES: false }, { PIECES: 4, LOADS: 2 }];

const queryPairsKernel = defineKernel({
  ...backwardQuery,
  name: "attentionPairsBackwardQuery",
  wgsl: new URL("./attention-pairs-backward-query.wgsl", import.meta.url),
  uses: ["flat-workgroup", "balanced", "key-range", "key-runs"],
  constants: { ...pairsDefaults, ROWS: 4, KEYS: 2 },
  variants: [{ CONTINUES: false }, { PIECES: 4, ROWS: 2, LOADS: 2 }],
  workgroups: onTokens,
});

const keyPairsKernel = defineKernel({
  ...backwardKey,
  name: "attentionPairsBackwardKey",
  wgsl: new URL("./attention-pairs-backward-key.wgsl", import.meta.url),
  uses: ["flat-workgroup", "balanced"],
  constants: { ...pairsDefaults, HEADS: 2 },
  variants: [...pairsVariants, { HEADS: 1 }],
  workgroups: onSlots,
});

const plainKernels = { forward: forwardKernel, query: queryKernel, key: keyKernel };
const tileKernels = { forward: forwardTileKernel, query: queryTileKernel, key: keyTileKernel };
const pairsKernels = { forward: forwardTileKernel, query: queryPairsKernel, key: keyPairsKernel };

/**
 * Heads up to this size use two rows per lane, and four for dq: with larger heads, so many rows no longer fit the
 * first-level cache. dKeys and dValues, whose rows are longer, gain nothing from four.
 */
const sizeOfTwoRows = 64;
/** Of heads up to this size the backward pass takes two keys, or two heads of a token, at a time. */
const sizeOfPairs = 32;
/** Of heads up to this size dq takes four rows per lane there too; larger ones gain little and compile for longer. */
const sizeOfFourRows = 16;
/**
 * A tile processes the tokens of one sequence together, and sequences one after another. If each token has its own keys, smaller
 * heads are slower than without a tile.
 */
const smallestOwnHead = 32;
/** From so many tokens of each sequence on, a tile is faster for smaller heads too. */
const tokensOfTile = 3;

/**
 * The variant for an adapter, with the constants of its kernels.
 * @param tokensEach  of each sequence, on average, if tokens read a cache; null if all keys are of this batch
 */
export function chooseKernels(style: AdapterStyle, heads: Heads, tokensEach: number | null) {
  const { headSize } = heads;
  const { HEADS, ...vectors } = vectorConstants(style, heads);
  const isTile = headSize >= smallestOwnHead || tokensEach === null || tokensEach >= tokensOfTile;
  if (style === "lavapipe" && headSize % lanes === 0 && isTile) {
    const PIECES = headSize / lanes;
    const forTokens = { PIECES, ROWS: headSize <= sizeOfTwoRows ? 2 : 1 };
    if (headSize > sizeOfPairs) {
      const forKeys: Constants = { ...forTokens, LOADS: loadsOf(headSize) };
      const forQuery: Constants = { ...forKeys, ROWS: 2 * forTokens.ROWS };
      return { ...tileKernels, forTokens, forQuery, forKeys, forStatistics: vectors };
    }
    const taken = (heads.heads / heads.keyHeads) % 2 === 0 ? 2 : 1;
    const rows = headSize <= sizeOfFourRows ? 4 : 2;
    const forQuery: Constants = { ...forTokens, ROWS: rows, KEYS: 2, LOADS: loadsOf(2 * headSize) };
    const forKeys: Constants = { ...forTokens, HEADS: taken, LOADS: loadsOf(taken * headSize) };
    return { ...pairsKernels, forTokens, forQuery, forKeys, forStatistics: vectors };
  }
  const forTokens = { ...vectors, HEADS };
  return { ...plainKernels, forTokens, forQuery: forTokens, forKeys: vectors, forStatistics: vectors };
}

/** Fours per lane. */
const loadsOf = (numbers: number): number => Math.ceil(numbers / (4 * lanes));

/**
 * The forward variant for an adapter if keys and values are f16. `toHalf` is the one that writes y in f16, from one cell of
 * slots; null for heads that are no multiple of four.
 */
export function chooseHalfForward(style: AdapterStyle, heads: Heads, tokensEach: number | null) {
  const { forward, forTokens } = chooseKernels(style, heads, tokensEach);
  if (forward === forwardTileKernel) return { forward: halfTileKernel, toHalf: halfTileToHalfKernel, forTokens };
  if (heads.headSize % 4 !== 0) return { forward: halfTwosKernel, toHalf: null, forTokens };
  return { forward: halfFoursKernel, toHalf: halfFoursToHalfKernel, forTokens };
}

/**
 * How a head is loaded, and how many query heads an invocation processes. On software adapters the loads of keys cost
 * more than the products, so an invocation processes all heads that read one key head, or as many as fit. A GPU needs
 * many invocations with few registers instead.
 */
function vectorConstants(
  style: AdapterStyle,
  { heads, keyHeads, headSize }: Heads,
): { Vector: string; WIDTH: number; VECTORS: number; HEADS: number } {
  const vector = vectorOf(headSize);
  const vectors = headSize / vector.WIDTH;
  const group = heads / keyHeads;
  let taken = style === "gpu" ? 1 : group;
  while (taken > 1 && (group % taken !== 0 || taken * vectors > mostVectors)) taken--;
  return { ...vector, VECTORS: vectors, HEADS: taken };
}

/** The largest vector that divides a head. */
export function vectorOf(headSize: number): { Vector: string; WIDTH: number } {
  const width = headSize % 4 === 0 ? 4 : 2;
  return { Vector: `vec${width}f`, WIDTH: width };
}
