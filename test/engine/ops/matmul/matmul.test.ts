import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import type { DType, NumberArray } from "../../../../engine/dtype.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { packHalfPanels, toHalf } from "../../../../engine/ops/matmul/half.ts";
import {
  multiplyForward,
  multiplyInput,
  multiplyWeight,
  packPanels,
  panelShape,
  sumRows,
} from "../../../../engine/ops/matmul/matmul.ts";
import {
  chooseTile,
  type OperandType,
  type Product,
  preferTiles,
  rowClasses,
  shapeClass,
  type TileChoice,
  type TileForm,
} from "../../../../engine/ops/matmul/tiles.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { reference, type TestBackend, testBackends, webgpuBackend } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

/** Rows, inputs, outputs. */
type Size = readonly [T: number, C: number, O: number];

const sizes: readonly Size[] = [
  [1, 1, 1],
  [3, 7, 61],
  [0, 8, 16],
  [33, 5, 9], // one more than a tile of rows, of panels
  [8, 64, 64], // the largest batch that takes the narrow tile, and the next
  [9, 64, 64],
  [16, 62, 62], // likewise where rows are not in fours
  [17, 62, 62],
  [130, 64, 192], // two chunks of rows in the weight's gradient
  [301, 192, 64],
  [270, 60, 13], // inputs in fours, outputs not
  [70, 12, 371],
  [5000, 8, 8], // a chunk longer than the shortest
  [4, 20, 12], // the largest batch that takes the tile for few rows, and the next
  [5, 20, 12],
  [66, 68, 132], // everything in fours: one four more than each tile
];

/** Every product of one size, from the same inputs on each backend; half of the gradients assigned, half added. */
async function products(
  backend: Backend,
  dtype: DType,
  [T, C, O]: Size,
  operands: OperandType = "f32",
  inputs: (seed: number, count: number) => ArrayLike<number> = normals,
): Promise<Map<string, NumberArray>> {
  return scopeAsync(async () => {
    const given = (seed: number, shape: Shape): Tensor => fromArray(backend, inputs(seed, sizeOf(shape)), shape, dtype);
    const operand = (seed: number, shape: Shape): Tensor =>
      operands === "f16" ? toHalf(given(seed, shape)) : given(seed, shape);
    const x = operand(1, [T, C]);
    const weight = operand(2, [O, C]);
    const bias = given(3, [O]);
    const dy = operand(4, [T, O]);
    const made: Record<string, Tensor> = {
      y: empty(backend, [T, O], dtype),
      yWithBias: empty(backend, [T, O], dtype),
      dx: empty(backend, [T, C], dtype),
      dxAdded: given(5, [T, C]),
      dWeight: empty(backend, [O, C], dtype),
      dWeightAdded: given(6, [O, C]),
    };
    const panels = empty(backend, panelShape(O, C), operands === "f16" ? "f16" : dtype);
    if (operands === "f16") packHalfPanels(given(2, [O, C]), panels);
    else {
      packPanels(weight, panels);
      made["panels"] = panels;
      made["dBias"] = empty(backend, [O], dtype);
      made["dBiasAdded"] = given(7, [O]);
    }
    multiplyForward(x, panels, null, made["y"]);
    multiplyForward(x, panels, bias, made["yWithBias"]);
    for (const [suffix, add] of [
      ["", false],
      ["Added", true],
    ] as const) {
      multiplyInput(dy, weight, { tensor: made[`dx${suffix}`], add });
      multiplyWeight(dy, x, { tensor: made[`dWeight${suffix}`], add });
      if (operands === "f32") sumRows(dy, { tensor: made[`dBias${suffix}`], add });
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

/** The form in place of what the adapter takes by itself, wherever it suits. */
function choiceOf(form: TileForm): TileChoice {
  const choice: Record<string, TileForm> = {};
  for (const product of ["forward", "input", "weight"] as const)
    for (const operands of ["f32", "f16"] as const)
      for (const rows of rowClasses)
        if (
          !((form.tile === "thin" || form.tile === "column") && product === "weight") &&
          !(form.tile === "quad" && operands === "f16")
        )
          choice[shapeClass(product, operands, rows)] = form;
  return choice;
}

/** The adapter with every tile that runs on it, whether or not it would choose it. */
async function tileBackends(): Promise<TestBackend[]> {
  const { name, backend } = await webgpuBackend();
  assert.ok(backend instanceof WebGpuBackend);
  const forms: TileForm[] = [
    { tile: "register", constants: {} },
    { tile: "workgroup", constants: {} },
    { tile: "thin", constants: { LANES: 8, ROWS: 1 } },
    { tile: "thin", constants: { LANES: 32, ROWS: 4 } },
  ];
  if (backend.style === "lavapipe")
    forms.push(
      { tile: "broadcast", constants: { ROWS: 1 } },
      { tile: "broadcast", constants: { ROWS: 4 } },
      { tile: "vector", constants: {} },
      ...[1, 4, 8, 16].map((ROWS): TileForm => ({ tile: "column", constants: { ROWS } })),
    );
  return forms.map((form) => {
    const own = new WebGpuBackend(backend.device, {
      description: backend.description,
      style: backend.style,
      memory: backend.memory,
    });
    preferTiles(own, choiceOf(form));
    return { name: `${name}, ${form.tile} tile ${JSON.stringify(form.constants)}`, backend: own };
  });
}

/** Numbers that f16 holds. */
function halfNormals(seed: number, count: number): Float64Array {
  return normals(seed, count).map((value) => f16ToF32(f32ToF16(value)));
}

describe("engine/ops/matmul/matmul", (test) => {
  for (const size of sizes)
    test(`all products, [${size}]`, async () => {
      const expected = expectedProducts(size);
      const exact = await products(reference, "f64", size);
      for (const [name, values] of expected)
        assertClose(`float64: ${name}`, exact.get(name) ?? [], values, { ofScale: 1e-13 });
      let whole: Map<string, NumberArray> | undefined;
      for (const { name: backendName, backend } of [...(await testBackends()), ...(await tileBackends())]) {
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

  for (const size of sizes)
    test(`f16 operands, [${size}]: the bits of f32 ones that hold the same numbers`, async () => {
      const single = await products((await webgpuBackend()).backend, "f32", size, "f32", halfNormals);
      for (const { name: backendName, backend } of [...(await testBackends()), ...(await tileBackends())]) {
        // Matrix units sum in another order: matrix-products.test.ts.
        if (matrixUnits(backend) !== null) continue;
        const before = backend.statistics().liveBuffers;
        const found = await products(backend, "f32", size, "f16", halfNormals);
        assert.equal(backend.statistics().liveBuffers, before, `${backendName}: buffers left behind`);
        for (const [name, values] of found) {
          const expected = single.get(name);
          assert.ok(expected);
          // The plain backend sums in float64: n ≤ 5000 roundings, as above.
          if (backend.kind === "cpu") assertClose(`${backendName}: ${name}`, values, expected, { ofScale: 6e-6 });
          else sameBits(`${backendName}: ${name}`, values, expected);
        }
      }
    });

  test("each product takes the tile that was preferred for its class, but none in fours where rows are not", async () => {
    const { backend } = await webgpuBackend();
    assert.ok(backend instanceof WebGpuBackend);
    const own = new WebGpuBackend(backend.device, { description: backend.description, style: "gpu", memory: "host" });
    const before = chooseTile(own, "forward", "f32", 64, true);
    const form: TileForm = { tile: "register", constants: {} };
    preferTiles(own, { [shapeClass("forward", "f32", 64)]: form });
    const choose = (product: Product, rows: number, inFours: boolean): TileForm =>
      chooseTile(own, product, "f32", rows, inFours);
    assert.equal(before.tile, "workgroup");
    assert.equal(choose("forward", 64, true), form);
    assert.equal(choose("forward", 17, true), form);
    assert.equal(choose("forward", 16, true).tile, "workgroup");
    assert.equal(choose("input", 64, true).tile, "workgroup");
    preferTiles(own, { [shapeClass("forward", "f32", 64)]: before });
    assert.equal(choose("forward", 64, false).tile, "register");
  });

  test("on lavapipe few rows take the tile with as many rows, so that none of them is idle", async () => {
    const { backend } = await webgpuBackend();
    assert.ok(backend instanceof WebGpuBackend);
    const own = new WebGpuBackend(backend.device, {
      description: backend.description,
      style: "lavapipe",
      memory: "host",
    });
    for (const product of ["forward", "input"] as const) {
      const formOf = (rows: number): TileForm => chooseTile(own, product, "f32", rows, true);
      const column = (ROWS: number): TileForm => ({ tile: "column", constants: { ROWS } });
      assert.deepEqual([1, 2, 4, 5, 8, 9, 16].map(formOf), [1, 4, 4, 8, 8, 16, 16].map(column));
      assert.equal(formOf(17).tile, "vector");
      assert.equal(chooseTile(own, product, "f32", 16, false).tile, "broadcast");
    }
    assert.equal(chooseTile(own, "weight", "f32", 16, true).tile, "vector");
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
        for (const count of [1, 3, 7, 32]) {
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
      await throwsMessage(
        () => multiplyInput(of(3, 4), empty(reference, [4, 2], "f16"), target(3, 2)),
        "expected operands of one type, got f64 and f16",
      );
      await throwsMessage(() => sumRows(of(3, 4), target(3)), "dBias: expected [4], got [3]");
    });
  });
});
