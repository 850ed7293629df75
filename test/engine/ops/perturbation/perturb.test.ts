import * as assert from "uvu/assert";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { toHalf } from "../../../../engine/ops/matmul/half.ts";
import { multiplyForward, packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { type Perturbation, perturbIntoSlot } from "../../../../engine/ops/perturbation/perturb.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

const streams = {
  deltaKey: philoxKey("direction|9|0|delta"),
  etaKey: philoxKey("direction|9|0|eta"),
  nameWords: wordsOf("model.layers.0.self_attn.q_proj.weight"),
};
const [a, b] = [Math.fround(0.013), Math.fround(-0.007)];
const coefficients: [number, number][] = [
  [a, b],
  [a, 0],
  [0, b],
  [0, 0],
];
/** Whole fours and not, rows that are no multiple of eight, one element, cuts of weight and panels at different rows. */
const matrices: Shape[] = [
  [1, 1],
  [8, 4],
  [13, 61],
  [24, 40],
  [37, 3],
  [301, 28],
  [150, 64],
  [9, 512],
  [1000, 33],
];

/** A weight with signed zeros, a subnormal and the largest number in it. */
function weightOf(size: number): Float64Array {
  const values = normals(3, size, 0.05);
  [-0, 0, 2 ** -140, -(2 ** -149), 3.4028234663852886e38].forEach((special, i) => {
    if (2 * i < size) values[2 * i] = special;
  });
  return values;
}

/** (w + a·δ) + b·η by plain loops in float64. */
function perturbedRows(weight: Float64Array, size: number, [a, b]: readonly [number, number]): Float64Array {
  const delta = directionNormals(streams.deltaKey, streams.nameWords, size);
  const eta = directionNormals(streams.etaKey, streams.nameWords, size);
  return weight.map((w, e) => w + a * delta[e] + b * eta[e]);
}

/** Slots filled with NaN beforehand, so that what is not written shows. */
async function slotsOf(
  backend: Backend,
  shape: Shape,
  values: ArrayLike<number>,
  perturbation: Perturbation,
): Promise<{ rows: NumberArray; panels: NumberArray; both: NumberArray[]; weight: NumberArray; packed: NumberArray }> {
  return scopeAsync(async () => {
    const dtype = backend === reference ? "f64" : "f32";
    const nan = (of: Shape) => fromArray(backend, new Float64Array(sizeOf(of)).fill(Number.NaN), of, dtype);
    const ofPanels = panelShape(shape[0], shape[1]);
    const weight = fromArray(backend, values, shape, dtype);
    const [rows, panels, both] = [nan(shape), nan(ofPanels), { rows: nan(shape), panels: nan(ofPanels) }];
    perturbIntoSlot(weight, { rows, panels: null }, perturbation);
    perturbIntoSlot(weight, { rows: null, panels }, perturbation);
    perturbIntoSlot(weight, both, perturbation);
    const packed = nan(ofPanels);
    packPanels(rows, packed);
    const read = await readTensors([rows, panels, both.rows, both.panels, weight, packed]);
    return { rows: read[0], panels: read[1], both: [read[2], read[3]], weight: read[4], packed: read[5] };
  });
}

/** What f16 panels [P, C, 8] hold, as a product with the identity shows it: [C, 8P]. */
async function readHalf(panels: Tensor): Promise<NumberArray> {
  const { backend, shape } = panels;
  const [count, width] = shape;
  const identity = Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  const y = empty(backend, [width, 8 * count]);
  multiplyForward(toHalf(fromArray(backend, identity, [width, width])), panels, null, y);
  return y.read();
}

describe("engine/ops/perturbation/perturb", (test) => {
  for (const shape of matrices)
    test(`a matrix [${shape}], as rows and as panels`, async () => {
      const size = sizeOf(shape);
      const values = weightOf(size);
      for (const [a, b] of coefficients) {
        const perturbation = { ...streams, a, b };
        const expected = perturbedRows(values, size, [a, b]);
        const plain = await slotsOf(reference, shape, values, perturbation);
        assertClose(`f64, ${a}, ${b}`, plain.rows, expected, { relative: 1e-15, absolute: 1e-17 });
        let first: NumberArray | null = null;
        for (const { name, backend } of await testBackends()) {
          const what = `${name}, ${a}, ${b}`;
          const found = await slotsOf(backend, shape, values, perturbation);
          // A normal errs by 4e-6, and each of two steps rounds once.
          assertClose(what, found.rows, expected, {
            absolute: 4e-6 * (Math.abs(a) + Math.abs(b)),
            relative: 2 * 2 ** -24,
          });
          sameBits(`${what}: panels`, found.panels, found.packed);
          sameBits(`${what}: rows of both`, found.both[0], found.rows);
          sameBits(`${what}: panels of both`, found.both[1], found.panels);
          sameBits(`${what}: the weight`, found.weight, Float32Array.from(values));
          if (a === 0 && b === 0) sameBits(`${what}: the slot at the origin`, found.rows, found.weight);
          const again = await slotsOf(backend, shape, values, perturbation);
          sameBits(`${what}: twice`, again.rows, found.rows);
          if (backend.kind === "cpu") continue;
          first ??= found.rows;
          sameBits(`${what}: as in one piece`, found.rows, first);
        }
      }
    });

  for (const shape of [...matrices, [21, 5]])
    test(`a matrix [${shape}] as f16 panels: the bits of the f32 panels, rounded`, async () => {
      const values = weightOf(sizeOf(shape)).map((value) => (Math.abs(value) > 1e30 ? 3 : value));
      const ofPanels = panelShape(shape[0], shape[1]);
      for (const [a, b] of coefficients)
        for (const { name, backend } of await testBackends())
          await scopeAsync(async () => {
            const weight = fromArray(backend, values, shape);
            const single = empty(backend, ofPanels);
            const half = empty(backend, ofPanels, "f16");
            perturbIntoSlot(weight, { rows: null, panels: half }, { ...streams, a: 1, b: 1 }); // another point's numbers
            perturbIntoSlot(weight, { rows: null, panels: half }, { ...streams, a, b });
            perturbIntoSlot(weight, { rows: null, panels: single }, { ...streams, a, b });
            sameBits(`${name}, ${a}, ${b}`, await readHalf(half), await readHalf(toHalf(single)));
          });
    });

  test("f16 panels hold NaN for a number beyond f16, and take no rows beside them", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const weight = fromArray(backend, [1, 65504, -65520, 1], [2, 2]);
        const panels = empty(backend, panelShape(2, 2), "f16");
        perturbIntoSlot(weight, { rows: null, panels }, { ...streams, a: 0, b: 0 });
        const rows = empty(backend, [2, 2]);
        await throwsMessage(() => perturbIntoSlot(weight, { rows, panels }, { ...streams, a: 0, b: 0 }), "got both");
        const y = empty(backend, [1, 2]);
        multiplyForward(toHalf(fromArray(backend, [1, 1], [1, 2])), panels, null, y);
        const [first, second] = await y.read();
        assert.ok(first === 65505 && Number.isNaN(second), `${name}: ${first}, ${second}`);
      });
  });

  test("vectors and tensors of other ranks have rows alone", async () => {
    for (const shape of [[5], [4097], [3, 4, 5], [0, 8]]) {
      const size = sizeOf(shape);
      const values = normals(4, size);
      const expected = perturbedRows(values, size, [a, b]);
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const rows = empty(backend, shape);
          perturbIntoSlot(fromArray(backend, values, shape), { rows, panels: null }, { ...streams, a, b });
          assertClose(`${name}: [${shape}]`, await rows.read(), expected, {
            absolute: 4e-6 * (a - b),
            relative: 2 * 2 ** -24,
          });
        });
    }
  });

  test("more panels than an axis of the grid takes", async () => {
    const shape = [8 * 8192 + 13, 1];
    const values = normals(5, shape[0], 0.05);
    const [, { name, backend }] = await testBackends();
    const { panels, packed } = await slotsOf(backend, shape, values, { ...streams, a, b });
    sameBits(name, panels, packed);
  });

  test("a slot that already holds another point's weights is overwritten, padding too", async () => {
    const shape = [13, 20];
    const values = normals(6, sizeOf(shape));
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const weight = fromArray(backend, values, shape);
        const panels = fromArray(backend, new Float32Array(2 * 20 * 8).fill(7), panelShape(13, 20));
        for (const step of [
          { a, b },
          { a: 0, b: 0 },
        ])
          perturbIntoSlot(weight, { rows: null, panels }, { ...streams, ...step });
        const packed = empty(backend, panels.shape);
        packPanels(weight, packed);
        sameBits(name, await panels.read(), await packed.read());
      });
  });

  test("refuses slots of another shape", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const weight = fromArray(backend, normals(1, 24), [6, 4]);
      const into =
        (rows: Shape | null, panels: Shape | null, of = weight) =>
        () =>
          perturbIntoSlot(
            of,
            { rows: rows && empty(backend, rows), panels: panels && empty(backend, panels) },
            { ...streams, a, b },
          );
      await throwsMessage(into([4, 6], null), "perturbIntoSlot: rows: expected [6,4], got [4,6]");
      await throwsMessage(into(null, [1, 6, 8]), "perturbIntoSlot: panels: expected [1,4,8], got [1,6,8]");
      await throwsMessage(into(null, [1, 24, 8], weight.view([24])), "perturbIntoSlot: panels", "[24]");
    });
  });
});
