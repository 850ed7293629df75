// The gated product that stores neither of its products: the bits of gatedLinear on the tape, which stores them, and of swiglu and
// two layers.
import * as assert from "uvu/assert";
import { record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { gatedLinear } from "../../../../engine/ops/matmul/gated-linear.ts";
import { multiplyGatedPairs, multiplyGatedPairsSlots } from "../../../../engine/ops/matmul/gated-pairs.ts";
import { linear } from "../../../../engine/ops/matmul/linear.ts";
import { panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import type { DirectionStep } from "../../../../engine/ops/perturbation/along.ts";
import { swiglu } from "../../../../engine/ops/swiglu/swiglu.ts";
import { ParameterArena } from "../../../../engine/parameter-arena.ts";
import { groupedRows, reach } from "../../../../engine/row-tables.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { SlotWeights } from "../../../../engine/slot-weights.ts";
import { empty, fromArray } from "../../../../engine/tensor.ts";
import { testBackends, webgpuBackend } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

/** Rows, inputs, outputs: whole tiles; a part of a tile each way; fewer outputs than a tile; rows of other tiles. */
const sizes = [
  [64, 64, 192],
  [70, 36, 40],
  [33, 8, 8],
  [19, 20, 24],
  [9, 64, 64],
  [1, 64, 64],
] as const;

/** Gate and up, [F, C] each. */
function arenaOf(backend: Backend, F: number, C: number, seed: number): ParameterArena {
  const spec = { shape: [F, C], isLinear: true, forwardCopy: true, group: "weights" } as const;
  const arena = new ParameterArena(backend, new Map(["gate", "up"].map((one) => [one, spec])));
  arena.names.forEach((one, i) => void arena.load(one, normals(seed + i, F * C)));
  arena.refreshCopies();
  return arena;
}

describe("engine/ops/matmul/gated-pairs", (test) => {
  for (const [T, C, F] of sizes) {
    test(`[${T},${C}] → ${F}: the bits of the products by themselves, on and off the tape`, async () => {
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const arena = arenaOf(backend, F, C, 20);
          const [gate, up] = [arena.get("gate"), arena.get("up")];
          const x = fromArray(backend, normals(1, T * C), [T, C]);
          const off = await gatedLinear(x, gate, up).read();
          x.requiresGradient = true;
          const on = await record(() => gatedLinear(x, gate, up)).result.read();
          x.requiresGradient = false;
          sameBits(`${name}: off the tape`, off, on);
          sameBits(`${name}: by themselves`, off, await swiglu(linear(x, gate), linear(x, up)).read());
          arena.free();
        });
    });

    test(`[${T},${C}] → ${F}: rows of three grid points, each with its own weights`, async () => {
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const arena = arenaOf(backend, F, C, 30);
          const slots = new SlotWeights(arena, 3);
          slots.placeAlong(
            [0, 1, 2].map((point) => (): readonly DirectionStep[] => [
              { kind: "gaussian", key: [point + 1, 0], coefficient: 0.3 },
            ]),
          );
          const x = fromArray(backend, normals(2, 3 * T * C), [3 * T, C]);
          const rows = [2, 0, 1].map((point, i) => ({ start: i * T, count: T, point }));
          const [gate, up] = [slots.get("gate"), slots.get("up")];
          const together = await gatedLinear(x, gate, up, rows).read();
          const apart = await swiglu(linear(x, gate, null, rows), linear(x, up, null, rows)).read();
          sameBits(name, together, apart);
          slots.free();
          arena.free();
        });
    });
  }

  test("it is there where tiles are vectors, and nowhere else", async () => {
    const { backend } = await webgpuBackend();
    await scopeAsync(async () => {
      const isVector = backend.style === "lavapipe";
      for (const [T, C, F, is] of [
        [17, 8, 16, isVector],
        [16, 8, 16, false], // another tile
        [64, 6, 16, false], // not in fours
      ] as const) {
        const both = fromArray(backend, normals(1, 2 * F * C), panelShape(2 * F, C));
        const panels = [both.sliceRows(0, F / 8), both.sliceRows(F / 8, F / 8)] as const;
        const x = fromArray(backend, normals(2, T * C), [T, C]);
        assert.is(multiplyGatedPairs(x, panels, empty(backend, [T, F])), is, `[${T},${C}] → ${F}`);
        assert.not(multiplyGatedPairs(x, [panels[1], panels[0]], empty(backend, [T, F])), "up before gate");
      }
      await backend.idle();
    });
  });

  test("one grid point of few rows among others of many does not take it from them", async () => {
    const { backend } = await webgpuBackend();
    const [C, F] = [8, 16];
    await scopeAsync(async () => {
      const arena = arenaOf(backend, F, C, 40);
      const slots = new SlotWeights(arena, 2);
      slots.placeAlong(
        [0, 1].map((point) => (): readonly DirectionStep[] => [
          { kind: "gaussian", key: [point, 0], coefficient: 0.3 },
        ]),
      );
      const [gate, up] = [slots.get("gate"), slots.get("up")];
      for (const [counts, is] of [
        [[60, 2], backend.style === "lavapipe"],
        [[2, 2], false], // lower tiles waste less
      ] as const) {
        const rows = counts.map((count, point) => ({ start: point === 0 ? 0 : counts[0], count, point }));
        const x = fromArray(backend, normals(1, (counts[0] + counts[1]) * C), [counts[0] + counts[1], C]);
        const [group, ofGate, ofUp] = [groupedRows(rows, [gate, up]), reach(gate, "panels"), reach(up, "panels")];
        assert.ok(group !== null && ofGate !== null && ofUp !== null);
        const y = empty(backend, [x.rows, F]);
        assert.is(multiplyGatedPairsSlots(x, [ofGate, ofUp], y, group), is, `${counts} rows`);
        if (is)
          sameBits(
            "uneven",
            await y.read(),
            await swiglu(linear(x, gate, null, rows), linear(x, up, null, rows)).read(),
          );
      }
      slots.free();
      arena.free();
    });
  });
});
