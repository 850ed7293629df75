import assert from "node:assert/strict";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { DType } from "../../../../engine/dtype.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { add } from "../../../../engine/ops/elementwise/elementwise.ts";
import { packHalfPanels, toHalf } from "../../../../engine/ops/matmul/half.ts";
import { linear, linearOp } from "../../../../engine/ops/matmul/linear.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import type { Parameter, WeightTensors } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { readSafetensorsFixture } from "../../../fixture-tensors.ts";
import { assertKnown, describe, readFixture, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { halfCopies } from "../../half-copies.ts";
import { smallIntegers } from "../../normals.ts";

interface OpCase {
  name: string;
  op: string;
  inputs: string[];
  shapes: Record<string, number[]>;
}

const plain = (tensor: Tensor): Parameter => ({ kind: "tensor", tensor, panels: null });

function withPanels(weight: Tensor): WeightTensors {
  const panels = empty(weight.backend, panelShape(weight.rows, weight.rowSize), weight.dtype);
  packPanels(weight, panels);
  return { rows: weight, panels };
}

describe("engine/ops/matmul/linear", (test) => {
  checkOp(test, linearOp, {
    settings: {},
    cases: {
      "one element": { x: [1, 1], weight: [1, 1], bias: [1] },
      "prime sizes": { x: [7, 13], weight: [29, 13], bias: [29] },
      "without bias": { x: [9, 54], weight: [7, 54] },
      "with residual": { x: [9, 52], weight: [7, 52], bias: [7], residual: [9, 7] },
      "with residual, in fours": { x: [9, 52], weight: [40, 52], residual: [9, 40] },
      "with residual, leading axes": { x: [2, 3, 5, 12], weight: [20, 12], residual: [2, 3, 5, 20] },
      "with residual, in several segments": { x: [150, 64], weight: [100, 64], residual: [150, 100] },
      "no rows": { x: [0, 8], weight: [16, 8], bias: [16] },
      "leading axes": { x: [2, 3, 5, 12], weight: [20, 12], bias: [20] },
      "tiles and one more": { x: [33, 36], weight: [33, 36], bias: [33] },
      "huge numbers": {
        inputs: {
          x: { shape: [5, 12], scale: 1e15 },
          weight: { shape: [9, 12], scale: 1e15 },
          bias: { shape: [9], scale: 1e30 },
        },
      },
      "tiny numbers": {
        inputs: {
          x: { shape: [5, 12], scale: 1e-15 },
          weight: { shape: [9, 12], scale: 1e-15 },
          bias: { shape: [9], scale: 1e-30 },
        },
      },
      "tensors in several segments": { x: [150, 64], weight: [100, 64], bias: [100] },
    },
    // n ≤ 150 roundings by 2⁻²⁴ of partial sums within the scale, of either sign: 4 · √150 · 2⁻²⁴ = 3e-6.
    tolerance: { forward: { ofScale: 3e-6 }, gradient: { ofScale: 3e-6 } },
    half: {
      operands: ["x", "weight"],
      run: ({ x, weight, bias, residual }) => {
        if (x === null || weight === null) throw new Error("linear needs x and weight");
        const parameter: Parameter = { kind: "tensor", tensor: weight, panels: null, half: halfCopies(weight) };
        return { y: linear(x, parameter, bias, null, residual === null ? {} : { residual }) };
      },
      // Forward: products of f16 are exact in f32, and only sums round. Matrix units may cut instead of rounding, by less
      // than 2⁻²³ of a partial sum per step: 150 · 2⁻²³ = 2e-5. Gradients: dy is rounded to f16, by at most the unit
      // roundoff 2⁻¹¹ of each term. Such roundings are of either sign: 4 / √3 · 2⁻¹¹ = 1.2e-3 of the root of Σ (dy · w)²,
      // which is at most the scale of a result of many terms and equals that of a result of one term (then 2⁻¹¹).
      tolerance: { forward: { ofScale: 2e-5 }, gradient: { ofScale: 1.2e-3 } },
      // Beyond the range of f16: 65504 at most, 6e-8 at least.
      without: ["huge numbers", "tiny numbers"],
    },
  });

  test("a residual gives the bits of add, with one weight, with slots and in mixed precision", async () => {
    const [T, C, O] = [9, 64, 40];
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const of = (seed: number, shape: Shape): Tensor => fromArray(backend, normals(seed, sizeOf(shape)), shape);
        const [x, weight, other, bias, residual] = [
          of(1, [T, C]),
          of(2, [O, C]),
          of(3, [O, C]),
          of(4, [O]),
          of(5, [T, O]),
        ];
        const half = { rows: toHalf(weight), panels: empty(backend, panelShape(O, C), "f16") };
        packHalfPanels(weight, half.panels);
        const slots = new Map([weight, other].map((one, point) => [point, withPanels(one)]));
        const rows = [
          { start: 0, count: 4, point: 1 },
          { start: 4, count: 5, point: 0 },
        ];
        const parameters: Record<string, Parameter> = {
          plain: plain(weight),
          slots: { kind: "slots", shape: [O, C], slots },
          mixed: { kind: "tensor", tensor: weight, panels: null, half },
        };
        for (const [kind, parameter] of Object.entries(parameters)) {
          const own = kind === "slots" ? rows : null;
          const found = await linear(x, parameter, bias, own, { residual }).read();
          const wanted = await add(residual, linear(x, parameter, bias, own)).read();
          sameBits(`${name}: ${kind}`, found, wanted);
        }
      });
  });

  test("f16 copies of a weight give the bits of the weight itself, where f16 holds all the numbers", async () => {
    for (const [T, C, O] of [
      [1, 64, 32],
      [3, 7, 61],
      [70, 12, 20],
    ])
      for (const { name, backend } of await testBackends()) {
        const before = backend.statistics().liveBuffers;
        await scopeAsync(async () => {
          // Matrix units sum in another order, which shows in no bit if every sum is exact.
          const numbers = (seed: number, count: number): Float64Array =>
            matrixUnits(backend) === null
              ? normals(seed, count).map((value) => f16ToF32(f32ToF16(value)))
              : smallIntegers(seed, count);
          const given = (seed: number, shape: Shape): Tensor => fromArray(backend, numbers(seed, sizeOf(shape)), shape);
          const [x, weight, bias, dy] = [given(1, [T, C]), given(2, [O, C]), given(3, [O]), given(4, [T, O])];
          const half = { rows: toHalf(weight), panels: empty(backend, panelShape(O, C), "f16") };
          packHalfPanels(weight, half.panels);
          for (const tensor of [x, weight, bias]) tensor.requiresGradient = true;
          const found = [];
          for (const parameter of [
            { ...plain(weight), half: undefined },
            { ...plain(weight), half },
          ]) {
            // Two layers read x: its copy serves both, and its gradient is a sum.
            const recording = record(() => [
              linear(x, parameter, plain(bias), null),
              linear(x, parameter, null, null, { isLastReader: true }),
            ]);
            assert.equal(x.storage.isFreed, parameter.half !== undefined, `${name}: x is freed where its copy serves`);
            const gradients = new GradientMap([x, weight, bias]);
            recording.backward(new Map(recording.result.map((y) => [y, dy])), gradients);
            const made = [...recording.result, ...[x, weight, bias].map((leaf) => gradients.get(leaf))];
            found.push(await readTensors(made.filter((tensor) => tensor !== undefined)));
            gradients.free();
          }
          const [single, mixed] = found;
          assert.equal(single.length, 5);
          for (const [i, product] of ["y", "y without bias", "dx", "dW", "db"].entries())
            sameBits(`${name}: ${product}`, mixed[i], single[i]);
        });
        assert.equal(backend.statistics().liveBuffers, before, `${name}: buffers left behind`);
      }
  });

  const { cases } = readFixture<{ cases: OpCase[] }>("ops.json");
  const tensors = readSafetensorsFixture("ops.safetensors");
  for (const { name, inputs, shapes } of cases.filter(({ op }) => op === "linear")) {
    const check = async (backendName: string, backend: Backend, dtype: DType): Promise<void> => {
      const tolerance = dtype === "f64" ? { ofScale: 1e-9 } : { ofScale: 2e-5, absolute: 2e-6 };
      await scopeAsync(async () => {
        const load = (tensor: string): Tensor =>
          fromArray(backend, tensors.get(`${name}/${tensor}`)?.values ?? [], shapes[tensor], dtype);
        const given = new Map(inputs.map((input) => [input, load(input)]));
        for (const tensor of given.values()) tensor.requiresGradient = true;
        const [x, weight, bias] = ["x", "weight", "bias"].map((input) => given.get(input));
        assert.ok(x && weight);
        const recording = record(() => linear(x, plain(weight), bias === undefined ? null : plain(bias), null));
        const gradients = new GradientMap(given.values());
        recording.backward(new Map([[recording.result, load("dy")]]), gradients);
        const found = new Map<string, Tensor | undefined>([["y", recording.result]]);
        for (const [input, tensor] of given) found.set(`d${input}`, gradients.get(tensor));
        for (const [tensor, values] of found)
          assertKnown(
            "ops.safetensors",
            `linear: ${tensor}`,
            backendName,
            (await values?.read()) ?? [],
            tensors.get(`${name}/${tensor}`)?.values ?? [],
            tolerance,
            name,
          );
        gradients.free();
      });
    };
    test(`known answers: ${name}`, async () => {
      await check("plain f64", reference, "f64");
      for (const { name: backendName, backend } of await testBackends()) await check(backendName, backend, "f32");
    });
  }

  test("a forward copy gives the same bits as none", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, 50 * 48), [50, 48]);
        const weight = fromArray(backend, normals(2, 90 * 48), [90, 48]);
        const { panels } = withPanels(weight);
        const withCopy = await linear(x, { kind: "tensor", tensor: weight, panels }, null, null).read();
        sameBits(name, await linear(x, plain(weight), null, null).read(), withCopy);
      });
  });

  test("each row takes the weights of its own grid point", async () => {
    const [C, O] = [20, 27];
    const rows = [
      { start: 0, count: 9, point: 5 },
      { start: 9, count: 1, point: 2 },
      { start: 10, count: 40, point: 7 },
      { start: 50, count: 30, point: 5 },
    ];
    const total = 80;
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const given = (seed: number, shape: Shape): Tensor => fromArray(backend, normals(seed, sizeOf(shape)), shape);
        const x = given(1, [total, C]);
        const points = [2, 5, 7];
        const weights = new Map(points.map((point) => [point, given(10 + point, [O, C])]));
        const biases = new Map(points.map((point) => [point, given(20 + point, [O])]));
        // Of one point the rows only, of the others the copy only: the forward product needs but one.
        const weight: Parameter = {
          kind: "slots",
          shape: [O, C],
          slots: new Map(
            [...weights].map(([point, tensor]) => [
              point,
              point === 2 ? { rows: tensor, panels: null } : { rows: null, panels: withPanels(tensor).panels },
            ]),
          ),
        };
        const bias: Parameter = {
          kind: "slots",
          shape: [O],
          slots: new Map([...biases].map(([point, tensor]) => [point, { rows: tensor, panels: null }])),
        };
        const [oneWeight, oneBias] = [given(30, [O, C]), given(31, [O])];
        for (const [what, w, b] of [
          ["both in slots", weight, bias],
          ["no bias", weight, null],
          ["plain bias", weight, plain(oneBias)],
          ["plain weight", plain(oneWeight), bias],
        ] as const) {
          const y = linear(x.view([8, 10, C]), w, b, rows);
          assert.deepEqual(y.shape, [8, 10, O]);
          const found = await y.read();
          for (const { start, count, point } of rows) {
            const own = w.kind === "slots" ? weights.get(point) : oneWeight;
            const ownBias = b?.kind === "slots" ? biases.get(point) : oneBias;
            assert.ok(own && ownBias);
            const alone = linear(x.sliceRows(start, count), plain(own), b === null ? null : plain(ownBias), null);
            sameBits(
              `${name}: ${what}: rows from ${start}`,
              found.slice(start * O, (start + count) * O),
              await alone.read(),
            );
          }
        }
      });
  });

  test("refuses what it cannot do", async () => {
    await scopeAsync(async () => {
      const of = (...shape: number[]): Tensor => empty(reference, shape, "f64");
      const x = of(4, 6);
      const slots: Parameter = { kind: "slots", shape: [5, 6], slots: new Map([[0, withPanels(of(5, 6))]]) };
      await throwsMessage(() => linear(x, plain(of(5, 7)), null, null), "linear: weight: expected [5,6], got [5,7]");
      await throwsMessage(() => linear(x, plain(of(5, 6)), plain(of(6)), null), "linear: bias: expected [5], got [6]");
      await throwsMessage(() => linear(of(4), plain(of(5, 4)), null, null), "linear: x: expected [..., C], got [4]");
      await throwsMessage(() => linear(x, slots, null, null), "perturbed weights need the batch's rows");
      const other = [{ start: 0, count: 4, point: 1 }];
      await throwsMessage(() => linear(x, slots, null, other), "no weights for grid point 1");
      x.requiresGradient = true;
      const rows = [{ start: 0, count: 4, point: 0 }];
      await throwsMessage(() => record(() => linear(x, slots, null, rows)), "perturbed weights have no gradient");
    });
  });
});
