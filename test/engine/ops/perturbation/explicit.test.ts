import assert from "node:assert/strict";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { moveIntoSlot } from "../../../../engine/ops/perturbation/along.ts";
import { addDirection, rowProducts, scaleRows } from "../../../../engine/ops/perturbation/explicit.ts";
import { perturbIntoSlot } from "../../../../engine/ops/perturbation/perturb.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, type Shape, sizeOf } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

const shapes: Shape[] = [[1], [5], [4097], [13, 20], [301, 61], [3, 4, 5], [9, 1024], [0, 8]];
const nameWords = wordsOf("model.layers.0.mlp.up_proj.weight");
const [deltaKey, etaKey, thirdKey] = ["delta", "eta", "centre"].map((axis) => philoxKey(`direction|3|1|${axis}`));

describe("engine/ops/perturbation/explicit", (test) => {
  test("moved + c · direction, products of rows and factors of rows, against float64", async () => {
    for (const shape of shapes) {
      const size = sizeOf(shape);
      const rows = shape[0];
      const rowSize = rows === 0 ? 0 : size / rows;
      const [x, y] = [normals(1, size), normals(2, size)];
      const factors = normals(3, rows);
      const products = Float64Array.from({ length: rows }, (_, row) => {
        let sum = 0;
        for (let i = row * rowSize; i < (row + 1) * rowSize; i++) sum += x[i] * y[i];
        return sum;
      });
      // Σ |x·y| is at most ‖x‖·‖y‖ of a row, about its length.
      const absolute = (rowSize / 256 + 9) * 2 ** -24 * 1.5 * (rowSize + 10);
      for (const { name, backend } of [{ name: "f64", backend: reference }, ...(await testBackends())])
        await scopeAsync(async () => {
          const isDouble = backend === reference;
          const tensor = (values: ArrayLike<number>, of: Shape) =>
            fromArray(backend, values, of, isDouble ? "f64" : "f32");
          const [left, right] = [tensor(x, shape), tensor(y, shape)];
          const where = `${name}: [${shape}]`;
          assertClose(where, await rowProducts(left, right), products, {
            absolute: isDouble ? 1e-12 * size : absolute,
          });
          sameBits(`${where} twice`, await rowProducts(left, right), await rowProducts(left, right));
          addDirection(left, right, -0.37);
          assertClose(
            where,
            await left.read(),
            x.map((value, i) => value - 0.37 * y[i]),
            {
              absolute: isDouble ? 1e-14 : 2 ** -24 * 8,
            },
          );
          await scaleRows(right, factors);
          const scaled = y.map((value, i) => value * factors[Math.floor(i / rowSize)]);
          assertClose(where, await right.read(), scaled, { relative: isDouble ? 1e-15 : 2 ** -23 });
        });
    }
  });

  test("a mix of Gaussians and tensors is moved left to right, each step rounded once; rows and panels alike", async () => {
    const shape = [13, 20];
    const values = normals(6, 260, 0.05);
    const tensors = [normals(7, 260), normals(8, 260)];
    const coefficients = [0.02, -0.03, 0.05];
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const weight = fromArray(backend, values, shape);
        const drawn = async (key: typeof deltaKey) => {
          // The device's own Gaussians, as numbers: 0 + 1 · g.
          const rows = empty(backend, shape);
          const zero = fromArray(backend, new Float32Array(260), shape);
          perturbIntoSlot(zero, { rows, panels: null }, { deltaKey: key, etaKey, nameWords, a: 1, b: 0 });
          return rows;
        };
        const explicit = tensors.map((of) => fromArray(backend, of, shape));
        const gaussians = new Map(
          await Promise.all([deltaKey, etaKey, thirdKey].map(async (key) => [key, await drawn(key)] as const)),
        );
        const mixes = ["ee", "ge", "eg", "gg", "ggg", "geg", "gge", "egg", "e", "g", ""];
        for (const mix of mixes) {
          const [keys, given] = [[deltaKey, etaKey, thirdKey], [...explicit]];
          const steps = [...mix].map((kind, i) =>
            kind === "g"
              ? { kind: "gaussian" as const, key: keys[i], coefficient: coefficients[i] }
              : { kind: "explicit" as const, tensor: given[i % 2], coefficient: coefficients[i] },
          );
          // The meaning: one addition after another, each of which rounds once.
          const expected = empty(backend, shape);
          perturbIntoSlot(weight, { rows: expected, panels: null }, { deltaKey, etaKey, nameWords, a: 0, b: 0 });
          for (const step of steps) {
            const tensor = step.kind === "explicit" ? step.tensor : gaussians.get(step.key);
            if (tensor !== undefined) addDirection(expected, tensor, step.coefficient);
          }
          const rows = empty(backend, shape);
          const panels = empty(backend, panelShape(13, 20));
          moveIntoSlot(weight, { rows, panels: null }, nameWords, steps);
          moveIntoSlot(weight, { rows: null, panels }, nameWords, steps);
          // Plain TypeScript draws and adds Gaussians in float64, and rounds what it stores.
          if (backend.kind === "cpu")
            assertClose(`${name}: ${mix}`, await rows.read(), await expected.read(), { absolute: 2 ** -23 });
          else sameBits(`${name}: ${mix}`, await rows.read(), await expected.read());
          const packed = empty(backend, panelShape(13, 20));
          packPanels(rows, packed);
          sameBits(`${name}: ${mix}, panels`, await panels.read(), await packed.read());
          const truth = Array.from(values, (value, i) =>
            steps.reduce((sum, step) => {
              const d =
                step.kind === "explicit"
                  ? tensors[given.indexOf(step.tensor)][i]
                  : directionNormals(step.key, nameWords, 260)[i];
              return sum + step.coefficient * d;
            }, value),
          );
          // Three roundings of numbers below 1, and the Gaussians' 4e-6 times the coefficients.
          assertClose(`${name}: ${mix} against float64`, await rows.read(), truth, { absolute: 3 * 2 ** -24 + 4e-7 });
        }
        sameBits(name, await weight.read(), Float32Array.from(values));
      });
  });

  test("steps of coefficient 0 leave the weight bit for bit, −0 included", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const weight = fromArray(backend, [-0, 1, Number.MIN_VALUE, -3], [2, 2]);
        const tensor = fromArray(backend, [1, 2, 3, 4], [2, 2]);
        const rows = empty(backend, [2, 2]);
        moveIntoSlot(weight, { rows, panels: null }, nameWords, [
          { kind: "explicit", tensor, coefficient: 0 },
          { kind: "gaussian", key: etaKey, coefficient: 0 },
        ]);
        sameBits(name, await rows.read(), await weight.read());
        assert.ok(Object.is((await rows.read())[0], -0), name);
      });
  });

  test("refuses other shapes", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const [x, y] = [empty(backend, [6, 4]), empty(backend, [4, 6])];
      await throwsMessage(() => addDirection(x, y, 1), "addDirection: expected [6,4], got [4,6]");
      await throwsMessage(() => rowProducts(x, y), "rowProducts: expected [6,4], got [4,6]");
      await throwsMessage(() => scaleRows(x, [1, 2]), "scaleRows: expected one factor for each of 6 rows, got 2");
    });
  });
});
