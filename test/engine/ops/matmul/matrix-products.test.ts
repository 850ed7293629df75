// Products with f16 operands on matrix units: every edge, every form of the tile, and the promise that a row's result
// does not depend on the rows beside it.
import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { packHalfPanels, toHalf } from "../../../../engine/ops/matmul/half.ts";
import { multiplyForward, multiplyInput, multiplyWeight, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { type MatrixCounts, preferCounts } from "../../../../engine/ops/matmul/matrix-tiles.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { type TestBackend, testBackends, webgpuBackend } from "../../../backends.ts";
import { assertClose, describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import { smallIntegers } from "../../normals.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];
type Values = (seed: number, count: number) => Float64Array;

const sides = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129];
/** Every side takes part as rows, inputs and outputs, each time beside others; then larger and special ones. */
const sizes: readonly Size[] = [
  ...sides.map((side, i): Size => [side, sides[(i * 4 + 3) % sides.length], sides[(i * 7 + 5) % sides.length]]),
  [0, 8, 16],
  [64, 64, 64],
  [130, 64, 192], // two chunks of rows in the weight's gradient
  [301, 192, 64],
  [270, 60, 13],
  [70, 12, 371],
  [2100, 8, 8], // a chunk that ends inside a matrix
];

/** Numbers that f16 holds. */
const halfNormals: Values = (seed, count) => normals(seed, count).map((value) => f16ToF32(f32ToF16(value)));
/**
 * A tensor amid others whose elements are infinite: a product that read one of them would not be finite. The margin
 * keeps offsets at multiples of 256 bytes.
 */
function amid(
  backend: Backend,
  values: ArrayLike<number>,
  shape: Shape,
  around: number,
): { tensor: Tensor; whole: Tensor } {
  const rowSize = sizeOf(shape.slice(1));
  let rows = 1;
  while ((rows * rowSize) % 128 !== 0) rows++;
  const larger = [shape[0] + 2 * rows, ...shape.slice(1)];
  const all = new Float64Array(sizeOf(larger)).fill(around);
  all.set(values, rows * rowSize);
  const whole = fromArray(backend, all, larger);
  return { tensor: whole.sliceRows(rows, shape[0]), whole };
}

function half(backend: Backend, values: ArrayLike<number>, shape: Shape): Tensor {
  const { whole, tensor } = amid(backend, values, shape, Number.POSITIVE_INFINITY);
  const margin = (whole.rows - tensor.rows) / 2;
  return toHalf(whole).sliceRows(margin, tensor.rows);
}

/** Lies around results, to be found there afterwards. */
const sentinel = 12345;

/** Every product of one size; gradients assigned, and added. */
async function products(backend: Backend, [T, C, O]: Size, values: Values): Promise<Map<string, NumberArray>> {
  return scopeAsync(async () => {
    const x = half(backend, values(1, T * C), [T, C]);
    const weight = fromArray(backend, values(2, O * C), [O, C]);
    const rows = half(backend, values(2, O * C), [O, C]);
    const bias = fromArray(backend, values(3, O), [O]);
    const dy = half(backend, values(4, T * O), [T, O]);
    const panels = empty(backend, panelShape(O, C), "f16");
    packHalfPanels(weight, panels);
    const made: Record<string, { tensor: Tensor; whole: Tensor }> = {
      y: amid(backend, new Float64Array(T * O).fill(Number.NaN), [T, O], sentinel),
      yWithBias: amid(backend, new Float64Array(T * O).fill(Number.NaN), [T, O], sentinel),
      dx: amid(backend, new Float64Array(T * C).fill(Number.NaN), [T, C], sentinel),
      dxAdded: amid(backend, values(5, T * C), [T, C], sentinel),
      dWeight: amid(backend, new Float64Array(O * C).fill(Number.NaN), [O, C], sentinel),
      dWeightAdded: amid(backend, values(6, O * C), [O, C], sentinel),
    };
    multiplyForward(x, panels, null, made["y"].tensor);
    multiplyForward(x, panels, bias, made["yWithBias"].tensor);
    for (const [suffix, add] of [
      ["", false],
      ["Added", true],
    ] as const) {
      multiplyInput(dy, rows, { tensor: made[`dx${suffix}`].tensor, add });
      multiplyWeight(dy, x, { tensor: made[`dWeight${suffix}`].tensor, add });
    }
    const read = await readTensors(Object.values(made).map(({ whole }) => whole));
    return new Map(
      Object.entries(made).map(([name, { tensor, whole }], i) => {
        const margin = ((whole.rows - tensor.rows) / 2) * whole.rowSize;
        const end = whole.size - margin;
        read[i].forEach((value, at) => {
          if ((at < margin || at >= end) && value !== sentinel)
            throw new Error(`${name}: element ${at - margin} of ${tensor.size} was written`);
        });
        return [name, read[i].slice(margin, end)];
      }),
    );
  });
}

/** What the products mean, in float64. */
function expectedProducts([T, C, O]: Size, values: Values): Map<string, Float64Array> {
  const [x, weight, bias, dy] = [values(1, T * C), values(2, O * C), values(3, O), values(4, T * O)];
  const [dxAdded, dWeightAdded] = [values(5, T * C), values(6, O * C)];
  const [y, dx, dWeight] = [T * O, T * C, O * C].map((count) => new Float64Array(count));
  for (let t = 0; t < T; t++)
    for (let o = 0; o < O; o++)
      for (let c = 0; c < C; c++) {
        y[t * O + o] += x[t * C + c] * weight[o * C + c];
        dx[t * C + c] += dy[t * O + o] * weight[o * C + c];
        dWeight[o * C + c] += dy[t * O + o] * x[t * C + c];
      }
  return new Map([
    ["y", y],
    ["yWithBias", y.map((value, i) => value + bias[i % O])],
    ["dx", dx],
    ["dxAdded", dxAdded.map((value, i) => value + dx[i])],
    ["dWeight", dWeight],
    ["dWeightAdded", dWeightAdded.map((value, i) => value + dWeight[i])],
  ]);
}

/** Steps of the sums of each product. */
const stepsOf = ([T, C, O]: Size): Readonly<Record<string, number>> => ({
  y: C,
  yWithBias: C,
  dx: O,
  dxAdded: O,
  dWeight: T,
  dWeightAdded: T,
});

/**
 * Of the largest expected element. Operands are f16 already, and products of f16 are exact in f32, so only sums round.
 * Hardware may cut instead of rounding: below 2⁻²³ of a partial sum per step, n steps, and the start. At most
 * 2e-3 (a driver that summed in f16, with 2⁻¹¹ per step, would exceed it from 8 steps on).
 */
const toleranceOf = (steps: number): { ofScale: number } => ({ ofScale: Math.min(2e-3, (steps + 2) * 2 ** -23) });

/** Forms besides the adapter's own: each count differs from 1 somewhere. */
const otherCounts: readonly MatrixCounts[] = [
  { SUBGROUPS_DOWN: 1, SUBGROUPS_ACROSS: 1, MATRICES_DOWN: 1, MATRICES_ACROSS: 1, MATRICES_DEEP: 1 },
  { SUBGROUPS_DOWN: 2, SUBGROUPS_ACROSS: 2, MATRICES_DOWN: 1, MATRICES_ACROSS: 1, MATRICES_DEEP: 3 },
  { SUBGROUPS_DOWN: 1, SUBGROUPS_ACROSS: 4, MATRICES_DOWN: 2, MATRICES_ACROSS: 1, MATRICES_DEEP: 1 },
];

const { name: adapterName, backend: whole } = await webgpuBackend();
const backends = (await testBackends()).filter(({ backend }) => matrixUnits(backend) !== null);

/** The adapter with other forms of the tile than its own. */
function otherForms(): TestBackend[] {
  assert.ok(whole instanceof WebGpuBackend);
  const { device, description, style, memory, abilities } = whole;
  return otherCounts.map((counts) => {
    const backend = new WebGpuBackend(device, { description, style, memory, abilities });
    preferCounts(backend, counts);
    return { name: `${adapterName}, ${JSON.stringify(counts)}`, backend };
  });
}

describe("engine/ops/matmul/matrix-products", (test) => {
  if (backends.length === 0) {
    test.skip("all of it", `${whole.description} has no matrix units for f16 operands`);
    return;
  }

  test("the products of small whole numbers are exact, at every edge and in every form", async () => {
    for (const { name: backendName, backend } of [...backends, ...otherForms()])
      for (const size of sizes) {
        const before = backend.statistics().liveBuffers;
        const found = await products(backend, size, smallIntegers);
        for (const [name, expected] of expectedProducts(size, smallIntegers))
          assertClose(`${backendName}: ${name} of [${size}]`, found.get(name) ?? [], expected, {});
        assert.equal(backend.statistics().liveBuffers, before, `${backendName}: buffers left behind`);
      }
  });

  test("the products of numbers that f16 holds are those of float64, within the rounding of f32 sums", async () => {
    for (const size of sizes) {
      const expected = expectedProducts(size, halfNormals);
      for (const { name: backendName, backend } of backends) {
        const found = await products(backend, size, halfNormals);
        for (const [name, values] of expected)
          assertClose(
            `${backendName}: ${name} of [${size}]`,
            found.get(name) ?? [],
            values,
            toleranceOf(stepsOf(size)[name]),
          );
      }
    }
  });

  test("the form of the tile changes no bit, and neither do cuts, but those of the steps of a gradient's sum", async () => {
    for (const size of sizes) {
      const first = await products(whole, size, halfNormals);
      for (const { name: backendName, backend } of otherForms())
        for (const [name, values] of await products(backend, size, halfNormals))
          sameBits(`${backendName}: ${name} of [${size}]`, values, first.get(name) ?? new Float32Array());
      // Small buffers cut dy inside a matrix: two matrices with zeros then take its place.
      for (const { name: backendName, backend } of backends) {
        const found = await products(backend, size, halfNormals);
        for (const name of ["y", "yWithBias"])
          sameBits(`${backendName}: ${name} of [${size}]`, found.get(name), first.get(name) ?? new Float32Array());
      }
    }
  });

  test("a row's products have the same bits alone, and anywhere among 500 rows", async () => {
    for (const [C, O] of [
      [64, 72],
      [61, 75],
    ])
      for (const { name, backend } of backends)
        await scopeAsync(async () => {
          const T = 500;
          const x = toHalf(fromArray(backend, normals(1, T * C), [T, C]));
          const dy = toHalf(fromArray(backend, normals(4, T * O), [T, O]));
          const weight = fromArray(backend, normals(2, O * C), [O, C]);
          const bias = fromArray(backend, normals(3, O), [O]);
          const panels = empty(backend, panelShape(O, C), "f16");
          packHalfPanels(weight, panels);
          const rows = toHalf(weight);
          const all = [empty(backend, [T, O]), empty(backend, [T, C])];
          multiplyForward(x, panels, bias, all[0]);
          multiplyInput(dy, rows, { tensor: all[1], add: false });
          const [y, dx] = await readTensors(all);
          for (const [start, count] of [
            [0, 1],
            [1, 1],
            [7, 1],
            [8, 1],
            [333, 1],
            [499, 1],
            [0, 8],
            [3, 9],
            [200, 33],
            [17, 300],
          ]) {
            const own = [empty(backend, [count, O]), empty(backend, [count, C])];
            multiplyForward(x.sliceRows(start, count), panels, bias, own[0]);
            multiplyInput(dy.sliceRows(start, count), rows, { tensor: own[1], add: false });
            const [yAlone, dxAlone] = await readTensors(own);
            sameBits(`${name}: y of rows from ${start}`, yAlone, y.slice(start * O, (start + count) * O));
            sameBits(`${name}: dx of rows from ${start}`, dxAlone, dx.slice(start * C, (start + count) * C));
          }
        });
  });

  test("bias and residual: y = x · Wᵀ + bias + residual", async () => {
    for (const [T, C, O] of [
      [1, 8, 8],
      [19, 64, 40],
      [33, 7, 61],
      [150, 64, 72],
    ])
      for (const { name, backend } of backends)
        await scopeAsync(async () => {
          const [x, weight, bias] = [smallIntegers(1, T * C), smallIntegers(2, O * C), smallIntegers(3, O)];
          const residual = smallIntegers(7, T * O);
          const panels = empty(backend, panelShape(O, C), "f16");
          packHalfPanels(fromArray(backend, weight, [O, C]), panels);
          const y = expectedProducts([T, C, O], smallIntegers).get("y") ?? new Float64Array();
          for (const hasBias of [false, true]) {
            const result = empty(backend, [T, O]);
            multiplyForward(
              toHalf(fromArray(backend, x, [T, C])),
              panels,
              hasBias ? fromArray(backend, bias, [O]) : null,
              result,
              fromArray(backend, residual, [T, O]),
            );
            const expected = y.map((value, i) => value + residual[i] + (hasBias ? bias[i % O] : 0));
            assertClose(`${name}: [${[T, C, O]}], bias ${hasBias}`, await result.read(), expected, {});
          }
        });
  });

  test("a range of outputs, a result wider than the weight is high, and gradients that leave the rest out", async () => {
    const [T, C, O, wide] = [20, 24, 13, 16];
    for (const { name, backend } of backends)
      await scopeAsync(async () => {
        const expected = expectedProducts([T, C, O], smallIntegers);
        const x = half(backend, smallIntegers(1, T * C), [T, C]);
        const weight = fromArray(backend, smallIntegers(2, O * C), [O, C]);
        const panels = empty(backend, panelShape(O, C), "f16");
        packHalfPanels(weight, panels);
        const widened = (values: ArrayLike<number>, rest: number): Float64Array =>
          new Float64Array(T * wide).map((_, i) =>
            i % wide < O ? values[Math.floor(i / wide) * O + (i % wide)] : rest,
          );
        const y = empty(backend, [T, wide]);
        multiplyForward(x, panels, null, y);
        assertClose(`${name}: y`, await y.read(), widened(expected.get("y") ?? [], 0), {});
        // Infinite where the weight has no rows: they must not be read as steps.
        const dy = half(backend, widened(smallIntegers(4, T * O), Number.POSITIVE_INFINITY), [T, wide]);
        const [dx, dWeight] = [empty(backend, [T, C]), empty(backend, [O, C])];
        multiplyInput(dy, half(backend, smallIntegers(2, O * C), [O, C]), { tensor: dx, add: false });
        multiplyWeight(dy, x, { tensor: dWeight, add: false });
        assertClose(`${name}: dx`, await dx.read(), expected.get("dx") ?? [], {});
        assertClose(`${name}: dWeight`, await dWeight.read(), expected.get("dWeight") ?? [], {});
        const second = empty(backend, [T, O - 8]);
        multiplyForward(x, panels.sliceRows(1, 1), null, second);
        const part = (expected.get("y") ?? new Float64Array()).filter((_, i) => i % O >= 8);
        assertClose(`${name}: the second panel`, await second.read(), part, {});
      });
  });

  test("an operand that overflowed makes its sums infinite or NaN, never a finite number, and no others", async () => {
    const [T, C, O] = [40, 24, 19];
    for (const { name, backend } of backends)
      for (const large of [65520, -1e30, Number.NaN])
        await scopeAsync(async () => {
          const values = smallIntegers(1, T * C);
          values[9 * C + 20] = large;
          const panels = empty(backend, panelShape(O, C), "f16");
          const weight = new Float64Array(O * C).fill(1);
          packHalfPanels(fromArray(backend, weight, [O, C]), panels);
          const y = empty(backend, [T, O]);
          multiplyForward(toHalf(fromArray(backend, values, [T, C])), panels, null, y);
          (await y.read()).forEach((value, i) => {
            const isRow = Math.floor(i / O) === 9;
            assert.equal(Number.isFinite(value), !isRow, `${name}: ${large}: row ${Math.floor(i / O)} became ${value}`);
          });
        });
  });

  test("sums beyond the range of f16 are those of f32", async () => {
    const [T, C, O] = [9, 512, 16];
    for (const { name, backend } of backends)
      await scopeAsync(async () => {
        const panels = empty(backend, panelShape(O, C), "f16");
        packHalfPanels(fromArray(backend, new Float64Array(O * C).fill(64), [O, C]), panels);
        const y = empty(backend, [T, O]);
        multiplyForward(toHalf(fromArray(backend, new Float64Array(T * C).fill(64), [T, C])), panels, null, y);
        assertClose(name, await y.read(), new Float64Array(T * O).fill(64 * 64 * C), {});
      });
  });
});
