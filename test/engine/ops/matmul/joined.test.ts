// Layers of one x in one dispatch: each op against central differences, and the bits of separate layers.
import assert from "node:assert/strict";
import { GradientMap, noGradient, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { type HalfEntry, HalfWeights } from "../../../../engine/half-weights.ts";
import { gatedLinear, gatedLinearOp, mixedGatedLinearOp } from "../../../../engine/ops/matmul/gated-linear.ts";
import { toHalf } from "../../../../engine/ops/matmul/half.ts";
import { multiplyGated, multiplyTriple, type Triple } from "../../../../engine/ops/matmul/joined.ts";
import { linear } from "../../../../engine/ops/matmul/linear.ts";
import { linearTriple, linearTripleOp, mixedLinearTripleOp } from "../../../../engine/ops/matmul/linear-triple.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { swiglu } from "../../../../engine/ops/swiglu/swiglu.ts";
import { type ArenaEntry, ParameterArena } from "../../../../engine/parameter-arena.ts";
import type { Parameter } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { testBackends, webgpuBackend } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { joinedHalfCopies } from "../../half-copies.ts";
import { readHalf } from "../../read-half.ts";

// n ≤ 150 roundings by 2⁻²⁴ of partial sums within the scale, of either sign: 4 · √150 · 2⁻²⁴ = 3e-6.
const tolerance = { forward: { ofScale: 3e-6 }, gradient: { ofScale: 3e-6 } };
// f16 operands, as in linear.test.ts: sums may be cut, by less than 2⁻²³ of a partial sum per step, n ≤ 150 steps. Gradients:
// dy is rounded to f16, by at most 2⁻¹¹ of a term, of either sign.
const halfTolerance = { forward: { ofScale: 2e-5 }, gradient: { ofScale: 1.2e-3 } };

const triple = (x: number[], outputs: readonly [number, number, number], withBias = true) => {
  const inputs = x[x.length - 1];
  const weights = { weight0: [outputs[0], inputs], weight1: [outputs[1], inputs], weight2: [outputs[2], inputs] };
  return withBias
    ? { x, ...weights, bias0: [outputs[0]], bias1: [outputs[1]], bias2: [outputs[2]] }
    : { x, ...weights };
};

/** An arena whose weights of one group follow each other. */
function arenaOf(
  backend: Backend,
  width: number,
  outputs: Readonly<Record<string, number>>,
  withBias: boolean,
  halfCopies = false,
) {
  const entries = new Map<string, ArenaEntry>();
  for (const [name, count] of Object.entries(outputs)) {
    entries.set(`${name}.weight`, {
      ...{ shape: [count, width], isLinear: true, forwardCopy: true, halfCopies, group: "weights" },
    });
    if (withBias) entries.set(`${name}.bias`, { shape: [count], group: "biases" });
  }
  const arena = new ParameterArena(backend, entries, { gradients: true });
  arena.names.forEach((name, i) => {
    arena.load(name, normals(20 + i, arena.value(name).size));
  });
  arena.refreshCopies();
  return arena;
}

/** Weights in f16 for the forward pass alone, loaded with normal numbers. */
function halfWeights(backend: Backend, width: number, outputs: Readonly<Record<string, number>>): HalfWeights {
  const entries = new Map<string, HalfEntry>();
  for (const [name, count] of Object.entries(outputs)) {
    const group = ["gate", "up"].includes(name) ? "gated" : "triple";
    entries.set(`${name}.weight`, { shape: [count, width], isHalf: true, group });
    entries.set(`${name}.bias`, { shape: [count], isHalf: false, group: `${group} biases` });
  }
  const weights = new HalfWeights(backend, entries);
  [...entries].forEach(([name, { shape }], i) => {
    const loader = weights.loader(name);
    loader.push(Float32Array.from(normals(20 + i, sizeOf(shape))));
    loader.end();
  });
  return weights;
}

/** Lies around results, to be found there afterwards. f16 holds it. */
const sentinel = 1024;

/** Panels of q, k and v, which follow each other, then of gate and up; biases of the first three. */
function joinedPanels(
  backend: Backend,
  operands: "f32" | "f16",
  width: number,
  outputs: Readonly<Record<"q" | "k" | "v" | "gate" | "up", number>>,
): { panels: Tensor[]; biases: Triple<Tensor>; free: () => void } {
  const weights = operands === "f16" ? halfWeights(backend, width, outputs) : arenaOf(backend, width, outputs, true);
  const panelsOf = (which: string): Tensor => {
    const one = weights.get(`${which}.weight`);
    const found = one.kind === "forward" ? one.weight.panels : one.kind === "tensor" ? one.panels : null;
    assert.ok(found);
    return found;
  };
  const biasOf = (which: string): Tensor => {
    const one = weights.get(`${which}.bias`);
    if (one.kind !== "tensor") throw new Error("a bias is a plain tensor");
    return one.tensor;
  };
  const biases = [biasOf("q"), biasOf("k"), biasOf("v")] as const;
  return { panels: Object.keys(outputs).map(panelsOf), biases, free: () => weights.free() };
}

/** Rows, inputs; outputs of each layer; whether one dispatch can compute them. */
const sizes = [
  { T: 1, C: 64, outputs: [64, 32, 32], isOne: true },
  { T: 3, C: 20, outputs: [16, 8, 24], isOne: true },
  { T: 16, C: 64, outputs: [64, 32, 32], isOne: true },
  { T: 70, C: 36, outputs: [40, 8, 16], isOne: true },
  { T: 5, C: 7, outputs: [16, 8, 8], isOne: true },
  { T: 4, C: 12, outputs: [10, 8, 8], isOne: false },
  { T: 2100, C: 4, outputs: [8, 8, 8], isOne: true },
] as const;

/** At many rows software drivers are faster with a dispatch for each layer (joined.ts). f16 operands: x is rounded first. */
function dispatchesOf(what: "triple" | "gated", backend: Backend, rows: number, isMixed: boolean): number {
  if (isMixed) return 1 + (matrixUnits(backend) !== null ? 1 : dispatchesOf(what, backend, rows, false));
  const { style } = backend;
  if (style === "swiftshader") return rows >= (what === "gated" ? 256 : 2048) ? 3 : 1;
  return style === "lavapipe" && what === "triple" && rows >= 2048 ? 3 : 1;
}

const rowsOf = (T: number) => [
  { start: 0, count: T - Math.floor(T / 2), point: 1 },
  { start: T - Math.floor(T / 2), count: Math.floor(T / 2), point: 0 },
];

describe("engine/ops/matmul/joined", (test) => {
  checkOp(test, linearTripleOp, {
    settings: {},
    cases: {
      // Bias by bias the number of ways in which gradients can begin doubles: one case has them.
      "one element": triple([1, 1], [1, 1, 1]),
      "whole panels": triple([9, 52], [24, 8, 8], false),
      "leading axes": triple([2, 3, 12], [20, 4, 8], false),
      "no rows": triple([0, 8], [16, 8, 8], false),
      "tensors in several segments": triple([70, 64], [72, 8, 8], false),
    },
    tolerance,
    half: {
      operands: ["x", "weight0", "weight1", "weight2"],
      run: (inputs, settings) => {
        const { x, weight0, weight1, weight2, bias0, bias1, bias2 } = inputs;
        if (x === null || weight0 === null || weight1 === null || weight2 === null)
          throw new Error("an input is missing");
        const [half0, half1, half2] = joinedHalfCopies([weight0, weight1, weight2]);
        const copies = { rows0: half0.rows, rows1: half1.rows, rows2: half2.rows, xHalf: noGradient(() => toHalf(x)) };
        const panels = { panels0: half0.panels, panels1: half1.panels, panels2: half2.panels };
        const given = { x, weight0, weight1, weight2, bias0, bias1, bias2 };
        return mixedLinearTripleOp({ ...given, ...copies, ...panels }, settings);
      },
      tolerance: halfTolerance,
    },
  });

  checkOp(test, gatedLinearOp, {
    settings: {},
    cases: {
      "one element": { x: [1, 1], gate: [1, 1], up: [1, 1] },
      "whole panels": { x: [9, 52], gate: [40, 52], up: [40, 52] },
      "prime sizes": { x: [7, 13], gate: [29, 13], up: [29, 13] },
      "leading axes": { x: [2, 3, 12], gate: [8, 12], up: [8, 12] },
      "no rows": { x: [0, 8], gate: [16, 8], up: [16, 8] },
      "tensors in several segments": { x: [70, 64], gate: [72, 64], up: [72, 64] },
    },
    // As above for each of two factors and the product; gradients sum 100 more terms.
    tolerance: { forward: { ofScale: 6e-6 }, gradient: { ofScale: 6e-6 } },
    half: {
      operands: ["x", "gate", "up"],
      run: ({ x, gate, up }, settings) => {
        if (x === null || gate === null || up === null) throw new Error("an input is missing");
        const [ofGate, ofUp] = joinedHalfCopies([gate, up]);
        const copies = { gateRows: ofGate.rows, gatePanels: ofGate.panels, upRows: ofUp.rows, upPanels: ofUp.panels };
        const xHalf = noGradient(() => toHalf(x));
        return mixedGatedLinearOp({ x, gate, up, xHalf, ...copies }, settings);
      },
      // As for one layer, in each of two factors.
      tolerance: { forward: { ofScale: 4e-5 }, gradient: { ofScale: 2.4e-3 } },
    },
  });

  for (const { T, C, outputs, isOne } of sizes) {
    for (const isMixed of [false, true]) {
      test(`${isMixed ? "mixed: " : ""}three layers of one x, [${T},${C}] → ${outputs}: values and gradients of linear${isOne ? ", one dispatch" : ""}`, async () => {
        for (const { name, backend } of await testBackends())
          await scopeAsync(async () => {
            const arena = arenaOf(backend, C, { q: outputs[0], k: outputs[1], v: outputs[2] }, true, isMixed);
            const names = ["q", "k", "v"] as const;
            const upstream = outputs.map((count, i) => fromArray(backend, normals(5 + i, T * count), [T, count]));
            const both: Tensor[][] = [];
            for (const way of ["joined", "apart"] as const) {
              const x = fromArray(backend, normals(1, T * C), [T, C]);
              x.requiresGradient = true;
              const before = backend.statistics().dispatches;
              const recording = record(() =>
                way === "joined"
                  ? linearTriple(
                      x,
                      [arena.get("q.weight"), arena.get("k.weight"), arena.get("v.weight")],
                      [arena.get("q.bias"), arena.get("k.bias"), arena.get("v.bias")],
                    )
                  : names.map((one) => linear(x, arena.get(`${one}.weight`), arena.get(`${one}.bias`))),
              );
              if (way === "joined" && isOne && backend === (await webgpuBackend()).backend)
                assert.equal(backend.statistics().dispatches - before, dispatchesOf("triple", backend, T, isMixed));
              const gradients = new GradientMap();
              recording.backward(new Map(recording.result.map((y, i) => [y, upstream[i]])), gradients);
              const leaves = [x, ...arena.names.map((one) => arena.value(one))];
              assert.equal(x.storage.isFreed, isMixed && way === "joined", "x is freed where its copy serves");
              both.push([...recording.result, ...leaves.map((leaf) => gradients.get(leaf) ?? leaf)]);
            }
            const [joined, apart] = [await readTensors(both[0]), await readTensors(both[1])];
            assert.equal(joined.length, 10);
            joined.forEach((values, i) => {
              sameBits(`${name}: tensor ${i}`, values, apart[i]);
            });
            arena.free();
          });
      });

      test(`${isMixed ? "mixed: " : ""}gated, [${T},${C}] → ${outputs[0]}: values and gradients of linear and swiglu${isOne ? ", one dispatch" : ""}`, async () => {
        for (const { name, backend } of await testBackends())
          await scopeAsync(async () => {
            const F = outputs[0];
            const arena = arenaOf(backend, C, { gate: F, up: F }, false, isMixed);
            const dy = fromArray(backend, normals(5, T * F), [T, F]);
            const both: Tensor[][] = [];
            for (const way of ["joined", "apart"] as const) {
              const x = fromArray(backend, normals(1, T * C), [T, C]);
              x.requiresGradient = true;
              const before = backend.statistics().dispatches;
              const [gate, up] = [arena.get("gate.weight"), arena.get("up.weight")];
              const recording = record(() =>
                way === "joined" ? gatedLinear(x, gate, up) : swiglu(linear(x, gate), linear(x, up)),
              );
              if (way === "joined" && isOne && backend === (await webgpuBackend()).backend)
                assert.equal(backend.statistics().dispatches - before, dispatchesOf("gated", backend, T, isMixed));
              const gradients = new GradientMap();
              recording.backward(new Map([[recording.result, dy]]), gradients);
              const leaves = [x, ...arena.names.map((one) => arena.value(one))];
              both.push([recording.result, ...leaves.map((leaf) => gradients.get(leaf) ?? leaf)]);
            }
            const [joined, apart] = [await readTensors(both[0]), await readTensors(both[1])];
            joined.forEach((values, i) => {
              sameBits(`${name}: tensor ${i}`, values, apart[i]);
            });
            arena.free();
          });
      });
    }

    test(`f16 panels, [${T},${C}] → ${outputs}: the bits of linear and swiglu${isOne ? ", one dispatch" : ""}`, async () => {
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const [O, K] = outputs;
          const weights = halfWeights(backend, C, { q: O, k: K, v: K, gate: O, up: O });
          const get = (which: string): Parameter => weights.get(which);
          const x = toHalf(fromArray(backend, normals(1, T * C), [T, C]));
          const before = backend.statistics().dispatches;
          const three = linearTriple(
            x,
            [get("q.weight"), get("k.weight"), get("v.weight")],
            [get("q.bias"), get("k.bias"), get("v.bias")],
          );
          const between = backend.statistics().dispatches;
          const gated = gatedLinear(x, get("gate.weight"), get("up.weight"), null, "f16");
          const after = backend.statistics().dispatches;
          if (isOne && backend === (await webgpuBackend()).backend) {
            const onUnits = matrixUnits(backend) !== null;
            assert.equal(between - before, onUnits ? 1 : dispatchesOf("triple", backend, T, false));
            // Tiles that store one number at a time cannot write f16: SwiftShader's, but for one row.
            const inFours = (backend.style !== "swiftshader" || T === 1) && C % 4 === 0;
            assert.equal(after - between, onUnits || inFours ? 1 : 3);
          }
          assert.equal(gated.dtype, "f16");
          const single = gatedLinear(x, get("gate.weight"), get("up.weight"));
          const of = (which: string): Tensor => linear(x, get(`${which}.weight`), get(`${which}.bias`));
          const product = (which: string): Tensor => linear(x, get(`${which}.weight`));
          const apart = [of("q"), of("k"), of("v"), swiglu(product("gate"), product("up"))];
          const [found, wanted] = [await readTensors([...three, single]), await readTensors(apart)];
          found.forEach((values, i) => {
            sameBits(`${name}: tensor ${i}`, values, wanted[i]);
          });
          sameBits(`${name}: y in f16`, await readHalf(gated), await readHalf(toHalf(apart[3])));
          weights.free();
        });
    });

    if (T > 1)
      test(`slots, [${T},${C}] → ${outputs}: the bits of linear and swiglu`, async () => {
        for (const { name, backend } of await testBackends())
          await scopeAsync(async () => {
            const [O, K] = outputs;
            const arenas = [0, 1].map(() => arenaOf(backend, C, { q: O, k: K, v: K, up: O }, true));
            arenas[1].load("q.weight", normals(77, O * C));
            arenas[1].refreshCopies();
            const slots = (which: string) => ({
              kind: "slots" as const,
              shape: arenas[0].value(which).shape,
              slots: new Map(
                arenas.map((arena, point) => {
                  const parameter = arena.get(which);
                  const panels = parameter.kind === "tensor" ? parameter.panels : null;
                  return [point, { rows: arena.value(which), panels }];
                }),
              ),
            });
            const x = fromArray(backend, normals(1, T * C), [T, C]);
            const rows = rowsOf(T);
            const ofThree = (end: string) => [slots(`q.${end}`), slots(`k.${end}`), slots(`v.${end}`)] as const;
            const joined = [
              ...linearTriple(x, ofThree("weight"), ofThree("bias"), rows),
              gatedLinear(x, slots("q.weight"), slots("up.weight"), rows),
              gatedLinear(x, slots("k.weight"), slots("v.weight"), rows),
            ];
            const one = (which: string, withBias = true): Tensor =>
              linear(x, slots(`${which}.weight`), withBias ? slots(`${which}.bias`) : null, rows);
            const apart = [
              ...["q", "k", "v"].map((which) => one(which)),
              swiglu(one("q", false), one("up", false)),
              swiglu(one("k", false), one("v", false)),
            ];
            const [found, wanted] = [await readTensors(joined), await readTensors(apart)];
            found.forEach((values, i) => {
              sameBits(`${name}: tensor ${i}`, values, wanted[i]);
            });
            for (const arena of arenas) arena.free();
          });
      });
  }

  for (const operands of ["f32", "f16"] as const)
    test(`${operands} operands: nothing outside of the results is written`, async () => {
      const [T, C, outputs, F] = [5, 24, [16, 8, 24], 40] as const;
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const { panels, biases, free } = joinedPanels(backend, operands, C, { q: 16, k: 8, v: 24, gate: F, up: F });
          const single = fromArray(backend, normals(1, T * C), [T, C]);
          const x = operands === "f16" ? toHalf(single) : single;
          // As many rows before and after as a tile has at most.
          const around = 64;
          const wholes: Tensor[] = [];
          const amid = (width: number, dtype: "f32" | "f16" = "f32"): Tensor => {
            const whole = fromArray(backend, new Float32Array((T + 2 * around) * width).fill(sentinel), [
              T + 2 * around,
              width,
            ]);
            wholes.push(dtype === "f16" ? toHalf(whole) : whole);
            return wholes[wholes.length - 1].sliceRows(around, T);
          };
          const ys = [amid(outputs[0]), amid(outputs[1]), amid(outputs[2])] as const;
          if (ys.some(({ segments }) => segments.length > 1)) throw new Error("the results are cut");
          assert.ok(multiplyTriple(x, [panels[0], panels[1], panels[2]], biases, ys), `${name}: no dispatch for three`);
          for (const dtype of operands === "f16" ? (["f32", "f16"] as const) : (["f32"] as const)) {
            const to = { gate: amid(F), up: amid(F), y: amid(F, dtype) };
            const isDone = multiplyGated(x, [panels[3], panels[4]], to);
            // Tiles that store one number at a time cannot write f16.
            const canStore = dtype === "f32" || backend.style === "lavapipe" || matrixUnits(backend) !== null;
            assert.equal(isDone, canStore, `${name}: y in ${dtype}`);
          }
          for (const whole of wholes) {
            const values = whole.dtype === "f16" ? await readHalf(whole) : await whole.read();
            values.forEach((value, i) => {
              const row = Math.floor(i / whole.rowSize) - around;
              if ((row < 0 || row >= T) && value !== sentinel)
                throw new Error(`${name}: row ${row} of ${T} of a result [${T},${whole.rowSize}] became ${value}`);
            });
          }
          free();
        });
    });

  test("refuses weights that do not fit", async () => {
    const shapes = triple([2, 12], [8, 8, 8]);
    await throwsMessage(
      () => linearTripleOp.definition.shapes({ ...noPanels, ...shapes, weight1: [8, 11] }, {}),
      "expected [8,12], got [8,11]",
    );
    await throwsMessage(
      () =>
        gatedLinearOp.definition.shapes(
          { x: [2, 12], gate: [8, 12], up: [16, 12], gatePanels: [1, 12, 8], upPanels: [2, 12, 8] },
          {},
        ),
      "expected [8,12], got [16,12]",
    );
  });
});

const panelsOf8 = [1, 12, 8];
const noPanels = { panels0: panelsOf8, panels1: panelsOf8, panels2: panelsOf8, bias0: [8], bias1: [8], bias2: [8] };
