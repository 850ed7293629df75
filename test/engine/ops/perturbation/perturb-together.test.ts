// Several weights moved in few dispatches: the bits of each by itself.
import * as assert from "uvu/assert";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { type DirectionStep, moveIntoSlot, moveIntoSlots } from "../../../../engine/ops/perturbation/along.ts";
import type { WeightTensors } from "../../../../engine/parameters.ts";
import { wordsOf } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Shape, sizeOf, type Tensor } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

type Layout = "rows" | "panels" | "both";
/** Rows that are no multiple of eight or four, one element, less and more than a workgroup's, and rows whose panels need their own dispatch. */
const tensors: readonly (readonly [Shape, Layout])[] = [
  [[5], "rows"],
  [[37, 64], "panels"],
  [[1], "rows"],
  [[301, 28], "panels"],
  [[130], "rows"],
  [[9, 512], "rows"],
  [[13, 61], "panels"],
  [[13, 61], "rows"],
  [[40, 12], "both"],
];

const gaussian = (key: readonly [number, number], coefficient: number): DirectionStep => ({
  ...{ kind: "gaussian", key, coefficient },
});

/** Tensors of these shapes in one buffer, each from a multiple of four numbers on, if it can hold them; or each in its own. */
function allocated(backend: Backend, shapes: readonly Shape[], inOne: boolean): Tensor[] {
  const sizes = shapes.map((shape) => 4 * Math.ceil(sizeOf(shape) / 4));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const fill = (shape: Shape): Tensor =>
    fromArray(backend, new Float32Array(sizeOf(shape)).fill(Number.NaN), shape, "f32");
  if (!inOne || total * 4 > backend.limits.maxBufferBytes) return shapes.map(fill);
  const all = fill([total]);
  let start = 0;
  return shapes.map((shape, i) => {
    start += sizes[i];
    return all.sliceRows(start - sizes[i], sizeOf(shape)).view(shape);
  });
}

function slotsOf(backend: Backend, inOne: boolean): WeightTensors[] {
  const panelsOf = ([shape]: (typeof tensors)[number]): Shape => panelShape(shape[0], shape[1]);
  const main = allocated(
    backend,
    tensors.map((one) => (one[1] === "panels" ? panelsOf(one) : one[0])),
    inOne,
  );
  return tensors.map((one, i) => ({
    rows: one[1] === "panels" ? null : main[i],
    panels: one[1] === "panels" ? main[i] : one[1] === "both" ? empty(backend, panelsOf(one)) : null,
  }));
}

describe("engine/ops/perturbation/perturb-together", (test) => {
  for (const [what, stepsOf] of Object.entries<(i: number) => DirectionStep[]>({
    "two Gaussians": (i) => [gaussian([1, 2], 0.1 * (i + 1)), gaussian([3, 4 + i], -0.07)],
    "one Gaussian": (i) => [gaussian([1, 2], i % 2 === 0 ? 0 : 0.3), gaussian([3, 4], i % 2 === 0 ? 0.2 : 0)],
    "no step": () => [gaussian([1, 2], 0), gaussian([3, 4], 0)],
    "three Gaussians for some": (i) => [
      ...[gaussian([1, 2], 0.1), gaussian([3, 4], 0.2)],
      ...(i % 3 === 0 ? [gaussian([5, 6], 0.3)] : []),
    ],
  }))
    test(`${what}: the bits of each weight by itself`, async () => {
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const weights = allocated(
            backend,
            tensors.map(([shape]) => shape),
            true,
          );
          for (const [i, weight] of weights.entries()) {
            const values = Float32Array.from(normals(20 + i, weight.size));
            [-0, 0, 2 ** -140].forEach((special, k) => {
              if (2 * k < values.length) values[2 * k] = special;
            });
            weight.write(values);
          }
          const moves = (slots: readonly WeightTensors[]) =>
            slots.map((slot, i) => ({
              ...{ weight: weights[i], slot, nameWords: wordsOf(`tensor ${i}`), steps: stepsOf(i) },
            }));
          const [own, inOne, inOwn] = [slotsOf(backend, true), slotsOf(backend, true), slotsOf(backend, false)];
          for (const { weight, slot, nameWords, steps } of moves(own)) moveIntoSlot(weight, slot, nameWords, steps);
          const before = backend.statistics();
          moveIntoSlots(moves(inOne));
          const after = backend.statistics();
          const dispatches = after.dispatches - before.dispatches;
          assert.is(after.liveBuffers, before.liveBuffers, "buffers left behind");
          moveIntoSlots(moves(inOwn));
          const tensorsOf = (slots: readonly WeightTensors[]): Tensor[] =>
            slots.flatMap(({ rows, panels }) => [rows, panels].filter((tensor) => tensor !== null));
          const [expected, ...found] = await Promise.all([own, inOne, inOwn].map((all) => readTensors(tensorsOf(all))));
          for (const [i, numbers] of expected.entries())
            for (const others of found) sameBits(`${name}: tensor ${i}`, others[i], numbers);
          // One for all, one for the panels whose rows are no fours, one to pack.
          const isOneBuffer = weights.every(({ segments }) => segments[0].buffer === weights[0].segments[0].buffer);
          if (what !== "three Gaussians for some" && isOneBuffer) assert.is(dispatches, 3, name);
        });
    });
});
