import assert from "node:assert/strict";
import { CpuBackend } from "../../../engine/backends/cpu.ts";
import { normRules } from "../../../landscape/direction-settings.ts";
import { innerProducts } from "../../../landscape/measure/directions/direction.ts";
import { orthogonalise, scaleDirection } from "../../../landscape/measure/directions/norm-rules.ts";
import { adamwDirection, objectiveGradient } from "../../../landscape/measure/directions/objective-gradient.ts";
import {
  componentTensor,
  principalComponents,
  symmetricEigen,
} from "../../../landscape/weights/principal-components.ts";
import { loadModel } from "../../../model/index.ts";
import { normals } from "../../engine/check-op.ts";
import { readSafetensorsFixture } from "../../fixture-tensors.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";
import { folder, knownReference, landscape, numbersOf, settingsWith } from "./direction-jobs.ts";
import { given, known, knownArena, names } from "./known-directions.ts";

describe("landscape/measure/direction-numbers", (test) => {
  test("every norm rule, against numpy", async () => {
    const arena = knownArena();
    const isUsed = (name: string, row: number): boolean => !name.includes("embed") || known.usedRows.includes(row);
    for (const rule of normRules) {
      const { direction, squares } = await scaleDirection(given(known.first), rule, {
        arena,
        names,
        isUsed,
        label: "delta",
      });
      for (const name of names) {
        const expected = known.rules[rule][name].flat();
        const found = await numbersOf(direction, name, expected.length);
        assertClose(`${rule}: ${name}`, found, expected, { absolute: 1e-13 });
        const square = expected.reduce((sum, value) => sum + value * value, 0);
        assertClose(`${rule}: ‖${name}‖²`, [squares.get(name) ?? Number.NaN], [square], { relative: 1e-12 });
      }
    }
  });

  test("Gram–Schmidt, against numpy's QR; parallel directions are refused", async () => {
    const arena = knownArena();
    const context = { arena, names, label: "delta" };
    const delta = await scaleDirection(given(known.first), "tensor", context);
    const eta = await scaleDirection(given(known.second), "none", context);
    const made = await orthogonalise(arena, delta, eta, false);
    const found = await Promise.all(
      names.map((name) => numbersOf(made.direction, name, known.weights[name].flat().length)),
    );
    assertClose("η′", found.flat(), known.orthogonal, { absolute: 1e-12 });
    const products = [...(await innerProducts(arena, delta.direction, made.direction)).values()];
    assertClose("⟨δ, η′⟩", [products.reduce((sum, one) => sum + one, 0)], [0], { absolute: 1e-11 });
    const again = await scaleDirection(given(known.first), "tensor", context);
    await throwsMessage(() => orthogonalise(arena, delta, again, false), "delta and eta are parallel");
  });

  test("principal components and their shares, against numpy's SVD", async () => {
    const points = known.trajectory.map((tensors) => ({
      async *chunks(name: string, elements = 3) {
        const values = tensors[name].flat();
        // Pieces that no tensor's size is a multiple of.
        const step = Math.min(elements, 3);
        for (let start = 0; start < values.length; start += step)
          yield { start, data: Float32Array.from(values.slice(start, start + step)) };
      },
    }));
    const found = await principalComponents(points, names);
    assertClose("shares", found.shares, known.variance, { absolute: 1e-12 });
    for (const [c, expected] of known.components.entries()) {
      const tensors = await Promise.all(
        names.map((name) => componentTensor(points, found, c, name, known.weights[name].flat().length)),
      );
      assertClose(
        `component ${c + 1}`,
        tensors.flatMap((one) => [...one]),
        expected,
        { absolute: 1e-9 },
      );
    }
    const twice = await principalComponents([points[0], points[0], points[1]], names);
    assertClose("two distinct checkpoints", twice.shares, [1, 0], { absolute: 1e-12 });
    await throwsMessage(() => componentTensor(points, twice, 1, names[0], 44), "no principal component 2");
  });

  test("eigenvectors of a symmetric matrix are orthonormal and diagonalise it", () => {
    for (const n of [1, 2, 3, 9]) {
      const random = normals(n, n * n);
      const a = Array.from({ length: n }, (_, i) =>
        Float64Array.from({ length: n }, (__, j) => random[Math.min(i, j) * n + Math.max(i, j)]),
      );
      const { values, vectors } = symmetricEigen(a);
      for (let p = 0; p < n; p++)
        for (let q = 0; q < n; q++) {
          let [inner, form] = [0, 0];
          for (let i = 0; i < n; i++) {
            inner += vectors[i][p] * vectors[i][q];
            for (let j = 0; j < n; j++) form += vectors[i][p] * a[i][j] * vectors[j][q];
          }
          assertClose(`${n}: ${p}, ${q}`, [inner, form], p === q ? [1, values[p]] : [0, 0], { absolute: 1e-13 * n });
        }
    }
  });

  test("AdamW's direction, with moments and without, against torch", async () => {
    const { gradient, norm, moment1, moment2, steps, ...settings } = known.adamw;
    for (const { updates, direction } of steps) {
      const before = updates === 0 ? null : { updates, read: async () => ({ moment1, moment2 }) };
      const found = await adamwDirection("x", gradient, norm, settings, before);
      assertClose(`after ${updates} updates`, found, direction, { relative: 1e-9, absolute: 1e-12 });
    }
  });

  test("the gradient of J on the plain backend in float64: its slope along two directions is torch's", async () => {
    const { config, weights } = await loadModel(new CpuBackend(), folder, { dtype: "f64" });
    const train = { ...settingsWith({}).train, normalisation: "group-token" as const };
    const before = await weights.read();
    const job = { config, arena: weights, reference: knownReference(landscape), train, maxTokens: 40 };
    const gradient = await objectiveGradient(job);
    const stored = await readSafetensorsFixture("landscape.safetensors");
    for (const [k, direction] of (["delta", "eta"] as const).entries()) {
      let slope = 0;
      for (const name of weights.names) {
        const own = await gradient.arena.gradient(name).read();
        const d = stored.get(`${direction}.${name}`)?.values ?? [];
        const scale = landscape.norms[name].weight / landscape.norms[name][direction];
        for (let i = 0; i < own.length; i++) slope += own[i] * scale * Number(d[i]);
      }
      assertClose(direction, [slope], [landscape.slope[k]], { relative: 1e-9 });
    }
    for (const [name, values] of await weights.read()) assert.deepEqual(values, before.get(name), name);
    gradient.free();
    const even = { ...job, reference: { ...job.reference, advantages: job.reference.advantages.map(() => 0) } };
    await throwsMessage(() => objectiveGradient(even), "The gradient of J is 0");
  });
});
