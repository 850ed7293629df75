import assert from "node:assert/strict";
import type { Backend } from "../../../engine/backend.ts";
import type { DType, NumberArray } from "../../../engine/dtype.ts";
import {
  multiplyForward,
  multiplyInput,
  multiplyWeight,
  packPanels,
  panelShape,
  sumRows,
} from "../../../engine/ops/matmul.ts";
import { scopeAsync } from "../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../engine/tensor.ts";
import { WebGpuBackend } from "../../../engine/webgpu/backend.ts";
import { reference, type TestBackend, testBackends, webgpuBackend } from "../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";
import { normals, sameBits } from "../check-op.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];

const sizes: readonly Size[] = [
  [1, 1, 1],
  [3, 7, 61],
  [0, 8, 16],
  [33, 5, 9], // one more than a tile of rows, of panels
  [16, 64, 64], // the largest batch that takes the narrow tile, and the next
  [17, 64, 64],
  [130, 64, 192], // two chunks of rows in the weight's gradient
  [301, 192, 64],
  [270, 60, 13], // inputs in fours, outputs not
  [70, 12, 371],
  [5000, 8, 8], // a chunk longer than the shortest
];

/** Every product of one size, from the same inputs on each backend; half of the gradients assigned, half added. */
async function products(backend: Backend, dtype: DType, [T, C, O]: Size): Promise<Map<string, NumberArray>> {
  return scopeAsync(async () => {
    const given = (seed: number, shape: Shape): Tensor =>
      fromArray(backend, normals(seed, sizeOf(shape)), shape, dtype);
    const x = given(1, [T, C]);
    const weight = given(2, [O, C]);
    const bias = given(3, [O]);
    const dy = given(4, [T, O]);
    const made: Record<string, Tensor> = {
      panels: empty(backend, panelShape(O, C), dtype),
      y: empty(backend, [T, O], dtype),
      yWithBias: empty(backend, [T, O], dtype),
      dx: empty(backend, [T, C], dtype),
      dxAdded: given(5, [T, C]),
      dWeight: empty(backend, [O, C], dtype),
      dWeightAdded: given(6, [O, C]),
      dBias: empty(backend, [O], dtype),
      dBiasAdded: given(7, [O]),
    };
    packPanels(weight, made["panels"]);
    multiplyForward(x, made["panels"], null, made["y"]);
    multiplyForward(x, made["panels"], bias, made["yWithBias"]);
    for (const [suffix, add] of [
      ["", false],
      ["Added", true],
    ] as const) {
      multiplyInput(dy, weight, { tensor: made[`dx${suffix}`], add });
      multiplyWeight(dy, x, { tensor: made[`dWeight${suffix}`], add });
      sumRows(dy, { tensor: made[`dBias${suffix}`], add });
    }
    const values = await readTensors(Object.values(made));
    return new Map(Object.keys(made).map((name, i) => [name, values[i]]));
  });
}

/** What the products mean, in loops of the test's own. */
function expectedProducts([T, C, O]: Size): Map<string, Float64Array> {
  const [x, weight, bias, dy] = [normals(1, T * C), normals(2, O * C), normals(3, O), normals(4, T * O)];
  const [dxAdded, dWeightAdded, dBiasAdded] = [normals(5, T * C), normals(6, O * C), normals(7, O)];
  const panels = new Float64Array(sizeOf(panelShape(O, C)));
  const [y, dx, dWeight, dBias] = [T * O, T * C, O * C, O].map((n) => new Float64Array(n));
  for (let o = 0; o < O; o++)
    for (let c = 0; c < C; c++) panels[Math.floor(o / 8) * C * 8 + c * 8 + (o % 8)] = weight[o * C + c];
  for (let t = 0; t < T; t++)
    for (let o = 0; o < O; o++) {
      dBias[o] += dy[t * O + o];
      for (let c = 0; c < C; c++) {
        y[t * O + o] += x[t * C + c] * weight[o * C + c];
        dx[t * C + c] += dy[t * O + o] * weight[o * C + c];
        dWeight[o * C + c] += dy[t * O + o] * x[t * C + c];
      }
    }
  return new Map<string, Float64Array>([
    ["panels", panels],
    ["y", y],
    ["yWithBias", y.map((value, i) => value + bias[i % O])],
    ["dx", dx],
    ["dxAdded", dxAdded.map((value, i) => value + dx[i])],
    ["dWeight", dWeight],
    ["dWeightAdded", dWeightAdded.map((value, i) => value + dWeight[i])],
    ["dBias", dBias],
    ["dBiasAdded", dBiasAdded.map((value, i) => value + dBias[i])],
  ]);
}

/** The same device taken for a GPU, so that the plain tile runs where the adapter would get one of its own. */
async function plainTileBackend(): Promise<TestBackend> {
  const { name, backend } = await webgpuBackend();
  assert.ok(backend instanceof WebGpuBackend);
  const plain = new WebGpuBackend(backend.device, { description: backend.description, style: "gpu" });
  return { name: `${name}, plain tile`, backend: plain };
}

describe("engine/ops/matmul", (test) => {
  for (const size of sizes)
    test(`all products, [${size}]`, async () => {
      const expected = expectedProducts(size);
      const exact = await products(reference, "f64", size);
      for (const [name, values] of expected)
        assertClose(`float64: ${name}`, exact.get(name) ?? [], values, { ofScale: 1e-13 });
      let whole: Map<string, NumberArray> | undefined;
      for (const { name: backendName, backend } of [...(await testBackends()), await plainTileBackend()]) {
        const before = backend.statistics().liveBuffers;
        const found = await products(backend, "f32", size);
        // n ≤ 5000 roundings by 2⁻²⁴ of partial sums within the scale, of either sign: 1.5 · √5000 · 2⁻²⁴ = 6e-6.
        for (const [name, values] of expected)
          assertClose(`${backendName}: ${name}`, found.get(name) ?? [], values, { ofScale: 6e-6 });
        assert.equal(backend.statistics().liveBuffers, before, `${backendName}: buffers left behind`);
        if (backend.kind === "cpu") continue;
        // Neither cuts nor tiles change a bit.
        whole ??= found;
        for (const [name, values] of whole) sameBits(`${backendName}: ${name}`, found.get(name), values);
      }
    });

  test("a row's products do not depend on the rows beside it", async () => {
    const [T, C, O] = [64, 64, 75];
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, T * C), [T, C]);
        const dy = fromArray(backend, normals(4, T * O), [T, O]);
        const weight = fromArray(backend, normals(2, O * C), [O, C]);
        const panels = empty(backend, panelShape(O, C));
        packPanels(weight, panels);
        const inBatchesOf = async (count: number): Promise<readonly NumberArray[]> => {
          const y = empty(backend, [T, O]);
          const dx = empty(backend, [T, C]);
          for (let start = 0; start < T; start += count) {
            const own = (tensor: Tensor): Tensor => tensor.sliceRows(start, Math.min(count, T - start));
            multiplyForward(own(x), panels, null, own(y));
            multiplyInput(own(dy), weight, { tensor: own(dx), add: false });
          }
          return readTensors([y, dx]);
        };
        const [y, dx] = await inBatchesOf(T);
        for (const count of [1, 7, 32]) {
          const [yApart, dxApart] = await inBatchesOf(count);
          sameBits(`${name}: y in batches of ${count}`, yApart, y);
          sameBits(`${name}: dx in batches of ${count}`, dxApart, dx);
        }
      });
  });

  test("ranges of outputs, one after another, make the whole", async () => {
    const [T, C, O, most] = [40, 24, 83, 32];
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, T * C), [T, C]);
        const weight = fromArray(backend, normals(2, O * C), [O, C]);
        const panels = empty(backend, panelShape(O, C));
        packPanels(weight, panels);
        const dx = fromArray(backend, normals(5, T * C), [T, C]);
        const dWeight = empty(backend, [O, C]);
        const [y, dxWhole, dWeightWhole] = ["y", "dxAdded", "dWeight"].map(
          (product) => expectedProducts([T, C, O]).get(product) ?? [],
        );
        const dyValues = normals(4, T * O);
        for (let start = 0; start < O; start += most) {
          const count = Math.min(most, O - start);
          const part = empty(backend, [T, count]);
          multiplyForward(x, panels.sliceRows(start / 8, Math.ceil(count / 8)), null, part);
          const columns = (values: ArrayLike<number>): Float64Array =>
            new Float64Array(T * count).map((_, i) => values[Math.floor(i / count) * O + start + (i % count)]);
          assertClose(`${name}: y from ${start}`, await part.read(), columns(y), { ofScale: 1e-6 });
          const dy = fromArray(backend, columns(dyValues), [T, count]);
          multiplyInput(dy, weight.sliceRows(start, count), { tensor: dx, add: true });
          multiplyWeight(dy, x, { tensor: dWeight.sliceRows(start, count), add: false });
        }
        assertClose(`${name}: dx`, await dx.read(), dxWhole, { ofScale: 1e-6 });
        assertClose(`${name}: dWeight`, await dWeight.read(), dWeightWhole, { ofScale: 1e-6 });
      });
  });

  test("a result wider than the weight is high gets zeros, and gradients leave them out", async () => {
    const [T, C, O, wide] = [20, 12, 13, 16];
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const expected = expectedProducts([T, C, O]);
        const x = fromArray(backend, normals(1, T * C), [T, C]);
        const weight = fromArray(backend, normals(2, O * C), [O, C]);
        const panels = empty(backend, panelShape(O, C));
        packPanels(weight, panels);
        const y = empty(backend, [T, wide]);
        multiplyForward(x, panels, null, y);
        const widened = (values: ArrayLike<number>, rest: number): Float64Array =>
          new Float64Array(T * wide).map((_, i) =>
            i % wide < O ? values[Math.floor(i / wide) * O + (i % wide)] : rest,
          );
        assertClose(`${name}: y`, await y.read(), widened(expected.get("y") ?? [], 0), { ofScale: 1e-6 });
        const dy = fromArray(backend, widened(normals(4, T * O), 1e6), [T, wide]);
        const dx = empty(backend, [T, C]);
        const dWeight = empty(backend, [O, C]);
        multiplyInput(dy, weight, { tensor: dx, add: false });
        multiplyWeight(dy, x, { tensor: dWeight, add: false });
        assertClose(`${name}: dx`, await dx.read(), expected.get("dx") ?? [], { ofScale: 1e-6 });
        assertClose(`${name}: dWeight`, await dWeight.read(), expected.get("dWeight") ?? [], { ofScale: 1e-6 });
      });
  });

  test("refuses shapes that do not go together", async () => {
    await scopeAsync(async () => {
      const of = (...shape: number[]): Tensor => empty(reference, shape, "f64");
      const target = (...shape: number[]) => ({ tensor: of(...shape), add: false });
      await throwsMessage(
        () => packPanels(of(9, 4), of(1, 4, 8)),
        "packPanels: panels",
        "expected [2,4,8], got [1,4,8]",
      );
      await throwsMessage(
        () => multiplyForward(of(3, 4), of(2, 5, 8), null, of(3, 9)),
        "multiplyForward: panels",
        "expected [2,4,8]",
      );
      await throwsMessage(
        () => multiplyForward(of(3, 4), of(2, 4, 8), of(8), of(3, 9)),
        "bias",
        "expected [9], got [8]",
      );
      await throwsMessage(() => multiplyForward(of(3, 4), of(2, 4, 8), null, of(2, 9)), "expected [3,9], got [2,9]");
      await throwsMessage(() => multiplyInput(of(3, 4), of(5, 2), target(3, 2)), "dy: expected [T, 5], got [3,4]");
      await throwsMessage(() => multiplyInput(of(3, 4), of(4, 2), target(3, 3)), "dx: expected [3,2], got [3,3]");
      await throwsMessage(() => multiplyWeight(of(3, 4), of(2, 2), target(4, 2)), "x: expected [3,2], got [2,2]");
      await throwsMessage(() => multiplyWeight(of(3, 4), of(3, 2), target(5, 2)), "dy: expected [T, 5], got [3,4]");
      await throwsMessage(() => sumRows(of(3, 4), target(3)), "dBias: expected [4], got [3]");
    });
  });
});
