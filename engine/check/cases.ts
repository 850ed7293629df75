// The work of the start-up check: a small piece of each computation of a model, at sizes that tiles do not divide
// evenly. The expected results are those of the plain-TypeScript backend for the same calls, since it defines what
// kernels compute; a few expected values come from elsewhere.

import { record } from "../autograd.ts";
import type { Backend } from "../backends/backend.ts";
import { attention, attentionOp, causalSpans } from "../ops/attention/attention.ts";
import { appendToCache } from "../ops/attention/kv-append.ts";
import { repeatSlots } from "../ops/attention/repeat-slots.ts";
import { toHalf } from "../ops/matmul/half.ts";
import { multiplyForward, multiplyInput, multiplyWeight, packPanels, panelShape } from "../ops/matmul/matmul.ts";
import type { OperandType } from "../ops/matmul/tiles.ts";
import { moveIntoSlots } from "../ops/perturbation/along.ts";
import { writeNormals } from "../ops/perturbation/normals.ts";
import { perturbIntoSlot } from "../ops/perturbation/perturb.ts";
import { sampleTokens } from "../ops/sampling/sample-tokens.ts";
import { matrixUnits } from "../ops/shared/matrix-units.ts";
import { asParameter } from "../parameters.ts";
import { tokenCounterRow, tokenKey, type WordPair, wordsOf } from "../random.ts";
import { empty, fromArray, type Shape, sizeOf, type Tensor } from "../tensor.ts";

/** This file: an adapter is checked again when it changes. */
export const casesFile = new URL(import.meta.url);

export interface CheckCase {
  /** What is computed, in the words of a message. */
  readonly name: string;
  /** Largest error of an element, as a share of the largest expected one, or of itself if `isOfEach`. */
  readonly tolerance: number;
  readonly isOfEach?: boolean;
  readonly run: (backend: Backend) => Record<string, Tensor>;
  /** Values from elsewhere, in place of those of the plain backend. */
  readonly known?: Readonly<Record<string, readonly number[]>>;
  /** Pairs of results that must be equal bit for bit. */
  readonly equal?: readonly (readonly [string, string])[];
  /** Whether the backend has kernels of this kind. Default: every backend has. */
  readonly isFor?: (backend: Backend) => boolean;
}

/** Numbers in [−1, 1), the same on every machine. */
function numbers(seed: number, count: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    // Lehmer's generator, modulus 2³¹ − 1 (Park & Miller 1988).
    state = (state * 48271) % 2147483647;
    return (state / 2147483647) * 2 - 1;
  });
}

function tensor(backend: Backend, seed: number, shape: Shape, factor = 1): Tensor {
  return fromArray(
    backend,
    numbers(seed, sizeOf(shape)).map((value) => value * factor),
    shape,
  );
}

/** Sums of products: 2⁻²⁴ per term of at most 72, relative to the largest sum, which is several times a typical term. */
const sumTolerance = 2e-5;

/** Widths in fours, and others; neither is a multiple of a tile's. */
const evenSizes = { outputs: 72, inputs: 36 };
const oddSizes = { outputs: 69, inputs: 35 };
/**
 * Row counts of different tiles (tiles.ts). Each product with another tile costs software drivers a third of a second
 * the first time, when they compile it; so f16, which reads operands by the same few functions in all tiles, has fewer.
 */
const manyRows = 37;
const rowCounts = {
  forward: { f32: [1, 3, manyRows], f16: [1, manyRows] },
  input: { f32: [1, manyRows], f16: [manyRows] },
};
const oddRows = 19;

/**
 * f16 operands are so large that sums exceed the largest f16, 65504; the sums are f32. They are sixteenths below 100,
 * which f16 holds exactly: a driver may round in either direction when it converts (`conversion` allows for that).
 */
function dataOf(backend: Backend, type: OperandType, seed: number, shape: Shape): Tensor {
  if (type === "f32") return tensor(backend, seed, shape);
  const sixteenths = numbers(seed, sizeOf(shape)).map((value) => Math.round(1600 * value) / 16);
  return fromArray(backend, sixteenths, shape);
}

function operand(backend: Backend, type: OperandType, seed: number, shape: Shape): Tensor {
  const data = dataOf(backend, type, seed, shape);
  return type === "f16" ? toHalf(data) : data;
}

function panelsOf(backend: Backend, type: OperandType, { outputs, inputs }: typeof evenSizes): Tensor {
  const panels = empty(backend, panelShape(outputs, inputs));
  packPanels(dataOf(backend, type, 2, [outputs, inputs]), panels);
  return type === "f16" ? toHalf(panels) : panels;
}

function forwardProduct(type: OperandType): CheckCase {
  const product = (backend: Backend, sizes: typeof evenSizes, x: Tensor, panels: Tensor): Tensor => {
    const y = empty(backend, [x.rows, sizes.outputs]);
    multiplyForward(x, panels, tensor(backend, 3, [sizes.outputs]), y);
    return y;
  };
  const counts = rowCounts.forward[type];
  return {
    name: `matrix product in ${type}, forward`,
    tolerance: sumTolerance,
    run: (backend) => {
      const x = operand(backend, type, 1, [manyRows, evenSizes.inputs]);
      const panels = panelsOf(backend, type, evenSizes);
      const all: Record<string, Tensor> = {};
      for (const rows of counts) {
        const y = product(backend, evenSizes, x.sliceRows(0, rows), panels);
        all[`y of ${rows} rows`] = y;
        all[`first row of ${rows}`] = y.sliceRows(0, 1);
      }
      if (type === "f32") {
        const odd = operand(backend, type, 4, [oddRows, oddSizes.inputs]);
        all["y of odd sizes"] = product(backend, oddSizes, odd, panelsOf(backend, type, oddSizes));
      }
      return all;
    },
    // In f32 a row has the same bits alone and among others. A sum in another order is found here: its error is too small
    // for the tolerance.
    equal: type === "f16" ? [] : counts.slice(1).map((rows) => [`first row of ${rows}`, "first row of 1"] as const),
  };
}

function inputProduct(type: OperandType): CheckCase {
  const product = (backend: Backend, dy: Tensor, weight: Tensor): Tensor => {
    const dx = empty(backend, [dy.rows, weight.rowSize]);
    multiplyInput(dy, weight, { tensor: dx, add: false });
    return dx;
  };
  return {
    name: `matrix product in ${type}, gradient of the input`,
    tolerance: sumTolerance,
    run: (backend) => {
      // dy is two columns wider than the weight has rows: those must not be read as terms of the sum.
      const weight = operand(backend, type, 5, [evenSizes.outputs - 2, evenSizes.inputs]);
      const dy = operand(backend, type, 6, [manyRows, evenSizes.outputs]);
      const all: Record<string, Tensor> = {};
      for (const rows of rowCounts.input[type])
        all[`dx of ${rows} rows`] = product(backend, dy.sliceRows(0, rows), weight);
      if (type === "f32") {
        const odd = operand(backend, type, 7, [oddRows, oddSizes.outputs]);
        const oddWeight = operand(backend, type, 8, [oddSizes.outputs, oddSizes.inputs]);
        all["dx of odd sizes"] = product(backend, odd, oddWeight);
      }
      return all;
    },
  };
}

function weightProduct(type: OperandType): CheckCase {
  return {
    name: `matrix product in ${type}, gradient of the weight`,
    tolerance: sumTolerance,
    run: (backend) => {
      const product = (rows: number, { outputs, inputs }: typeof evenSizes): Tensor => {
        const dWeight = tensor(backend, 11, [outputs, inputs]);
        const dy = operand(backend, type, 9, [rows, outputs]);
        const x = operand(backend, type, 10, [rows, inputs]);
        // Assigned, then added: twice the gradient.
        multiplyWeight(dy, x, { tensor: dWeight, add: false });
        multiplyWeight(dy, x, { tensor: dWeight, add: true });
        return dWeight;
      };
      const all: Record<string, Tensor> = { dWeight: product(manyRows, evenSizes) };
      if (type === "f32") all["dWeight of odd sizes"] = product(oddRows, oddSizes);
      return all;
    },
  };
}

/**
 * A product with 1, which shows the f16 numbers themselves. Vulkan lets a driver round up or down, so each may be off by
 * one unit in its last place; but what overflows, and in which direction, is not left to the driver.
 */
const conversion: CheckCase = {
  name: "conversion to f16",
  tolerance: 2 ** -10,
  isOfEach: true,
  run: (backend) => {
    const values = [1, -2.5, 1 / 3, 2049, 65504, 65519, 65520, 1e6, -1e6, 1e-4, 0, -65520];
    const inFours = values.flatMap((value) => [value, 0, 0, 0]);
    const one = empty(backend, panelShape(4, 4));
    packPanels(fromArray(backend, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], [4, 4]), one);
    const y = empty(backend, [values.length, 4]);
    multiplyForward(toHalf(fromArray(backend, inFours, [values.length, 4])), toHalf(one), null, y);
    return { y };
  },
};

const heads = { count: 4, keys: 2, size: 16 };
/** Two sequences, the second after keys without queries; more than a tile of either kind. */
const lengths = [21, 9];
const cached = [0, 5];

/** exp and log of a driver may be 62 units in the last place off; gradients sum such errors. */
const attentionTolerance = 1e-4;

/**
 * Weights of the softmax, dy and gradients of scores are rounded to f16 once each, to within 2⁻¹¹, and an error of a sum
 * may be a few times the largest result's share of it where terms cancel.
 */
const matrixAttentionTolerance = 3e-3;

/** With f16 operands these are multiples of 2⁻⁸ below 2, which f16 holds exactly: the plain backend does not round. */
function attentionCase(operands: OperandType): CheckCase {
  const onMatrixUnits = operands === "f16";
  return {
    name: `attention${onMatrixUnits ? " on matrix units" : ""}, forward and backward`,
    tolerance: onMatrixUnits ? matrixAttentionTolerance : attentionTolerance,
    ...(onMatrixUnits ? { isFor: (backend: Backend) => matrixUnits(backend) !== null } : {}),
    run: (backend) => {
      const { spans, querySpans } = causalSpans(lengths, cached);
      const [tokens, slots] = [spans.length / 4, querySpans.length / 2];
      const made = (seed: number, shape: Shape, factor: number): Tensor => {
        if (!onMatrixUnits) return tensor(backend, seed, shape, factor);
        const rounded = numbers(seed, sizeOf(shape)).map((value) => Math.round(256 * factor * value) / 256);
        return fromArray(backend, rounded, shape);
      };
      const leaf = (seed: number, shape: Shape): Tensor => {
        const own = made(seed, shape, 2);
        own.requiresGradient = true;
        return own;
      };
      const q = leaf(12, [tokens, heads.count, heads.size]);
      const keys = leaf(13, [slots, heads.keys, heads.size]);
      const values = leaf(14, [slots, heads.keys, heads.size]);
      const given = {
        spans: fromArray(backend, spans, [tokens, 4], "u32"),
        querySpans: fromArray(backend, querySpans, [slots, 2], "u32"),
      };
      const recording = record(() =>
        attentionOp({ q, keys, values, ...given }, { scale: heads.size ** -0.5, operands }),
      );
      const { y, logSumExp } = recording.result;
      const targets = new Map([q, keys, values].map((x) => [x, empty(backend, x.shape)] as const));
      recording.backward(new Map([[y, made(15, y.shape, 1)]]), {
        target: (x) => targets.get(x),
        has: () => false,
        mark: () => {},
      });
      const gradient = (x: Tensor): Tensor => targets.get(x) ?? x;
      return { y, logSumExp, dq: gradient(q), dKeys: gradient(keys), dValues: gradient(values) };
    },
  };
}

/** Decoding: every token sees a shared prefix and its own keys, and the slots are written twice. */
const cacheCase: CheckCase = {
  name: "attention over a cache",
  tolerance: attentionTolerance,
  run: (backend) => {
    const [slots, tokens] = [24, 5];
    const shape = [slots, heads.keys, heads.size];
    const [keys, values] = [tensor(backend, 16, shape), tensor(backend, 17, shape)];
    const q = tensor(backend, 18, [tokens, heads.count, heads.size], 2);
    const spans = Array.from({ length: tokens }, (_, t) => [0, 8, 8 + 3 * t, 11]).flat();
    // The second round overwrites slots that the first one filled.
    const append = (round: number): void => {
      const own = Array.from({ length: tokens }, (_, t) => 10 + 3 * t - round);
      const rows = [tokens, heads.keys, heads.size];
      const [k, v] = [tensor(backend, 19 + round, rows), tensor(backend, 22 + round, rows)];
      appendToCache(k, v, fromArray(backend, own, [tokens], "u32"), keys, values);
    };
    const attend = (): Tensor => attention(q, keys, values, fromArray(backend, spans, [tokens, 4], "u32"), null);
    append(0);
    const first = attend();
    append(1);
    append(0);
    append(2);
    const second = attend();
    // Keys and values that several sequences have in common are copied.
    const [from, to] = [
      [0, 10, 0, 13],
      [20, 21, 23, 9],
    ].map((list) => fromArray(backend, list, [list.length], "u32"));
    repeatSlots(keys, values, from, to);
    return { first, second, keys, repeated: attend() };
  },
};

/**
 * Elements 8 to 15 of a direction, computed with NumPy in float64 (test/fixtures/make/random_numbers.py; the first
 * direction of test/fixtures/random.json).
 */
const knownKey: WordPair = [1078230986, 2323368923];
const knownName: WordPair = [2890126588, 719651739];
const knownNormals = [
  -0.637293538537675, 0.014544552284869108, 0.10347597538281793, 0.09162200914469988, 0.5218308242564867,
  0.3835120889881033, -0.9275008855589015, -0.930876937558832,
];

const normalsCase: CheckCase = {
  name: "Gaussians of a direction",
  // 4e-6, of numbers up to 3.
  tolerance: 4e-6,
  run: (backend) => {
    const y = empty(backend, [301]);
    writeNormals(y, knownKey, knownName);
    return { y, "elements 8 to 15": y.sliceRows(8, 8) };
  },
  known: { "elements 8 to 15": knownNormals },
};

/** A slot holds one grid point after another. */
const slotCase: CheckCase = {
  name: "a perturbed weight in its slot",
  tolerance: 1e-5,
  run: (backend) => {
    const { outputs, inputs } = evenSizes;
    const weight = tensor(backend, 25, [outputs, inputs]);
    const slot = { rows: empty(backend, [outputs, inputs]), panels: empty(backend, panelShape(outputs, inputs)) };
    const own = empty(backend, panelShape(outputs, inputs));
    // Rows and panels of the same weight once more, by one dispatch: they lie in one buffer.
    const [size, padded] = [sizeOf([outputs, inputs]), sizeOf(own.shape)];
    const all = empty(backend, [size + padded]);
    const [rows, panels] = [
      all.sliceRows(0, size).view([outputs, inputs]),
      all.sliceRows(size, padded).view(own.shape),
    ];
    const write = (a: number, b: number): void => {
      const nameWords = wordsOf("a weight");
      const directions = { deltaKey: knownKey, etaKey: knownName, nameWords, a, b };
      perturbIntoSlot(weight, slot, directions);
      perturbIntoSlot(weight, { rows: null, panels: own }, directions);
      const steps = [
        { kind: "gaussian", key: knownKey, coefficient: a },
        { kind: "gaussian", key: knownName, coefficient: b },
      ] as const;
      const slots = [
        { rows, panels: null },
        { rows: null, panels },
      ];
      moveIntoSlots(slots.map((into) => ({ weight, slot: into, nameWords, steps })));
    };
    write(0.5, -0.25);
    write(-1, 0.75);
    return {
      ...{ rows: slot.rows, panels: slot.panels, "panels alone": own },
      ...{ "rows together": rows, "panels together": panels },
    };
  },
  equal: [
    ["panels", "panels alone"],
    ["rows", "rows together"],
    ["panels", "panels together"],
  ],
};

const vocabulary = 301;

/**
 * Sampled ids are whole numbers: an id that differs is an error of more than the tolerance. The best scores are apart from
 * the next by 0.2 and more, so no rounding changes an id.
 */
const sampleCase: CheckCase = {
  name: "sampled tokens",
  tolerance: 1e-4,
  run: (backend) => {
    const [rows, width] = [3, 36];
    const place = { position: 7, turn: 1, rollout: 2, prompt: 123456789 };
    const counters = Array.from({ length: rows }, (_, rollout) => [...tokenCounterRow({ ...place, rollout })]).flat();
    const hidden = tensor(backend, 26, [rows, width], 2);
    const weight = asParameter(tensor(backend, 27, [vocabulary, width]));
    const sampled = sampleTokens(hidden, weight, null, {
      counters: fromArray(backend, counters, [rows, 4], "u32"),
      key: tokenKey(1, "check", 0),
      temperature: 0.75,
    });
    return { ...sampled };
  },
};

const allCases: readonly CheckCase[] = [
  forwardProduct("f32"),
  inputProduct("f32"),
  weightProduct("f32"),
  conversion,
  forwardProduct("f16"),
  inputProduct("f16"),
  weightProduct("f16"),
  attentionCase("f32"),
  attentionCase("f16"),
  cacheCase,
  normalsCase,
  slotCase,
  sampleCase,
];

/** The work that a backend has kernels for. */
export function casesFor(backend: Backend): readonly CheckCase[] {
  return allCases.filter(({ isFor = () => true }) => isFor(backend));
}
