// What is made of several buffers is made whole or not at all: where there is no memory for one, those before it are freed.
import assert from "node:assert/strict";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import type { DType } from "../../engine/dtype.ts";
import { OutOfMemoryError } from "../../engine/errors.ts";
import { HalfWeights } from "../../engine/half-weights.ts";
import { ParameterArena } from "../../engine/parameter-arena.ts";
import { keep, keepAll, scope } from "../../engine/scope.ts";
import { SlotWeights } from "../../engine/slot-weights.ts";
import { empty } from "../../engine/tensor.ts";
import { describe, throwsMessage } from "../support.ts";

/** A backend that has memory for so many buffers. */
class ScarceBackend extends CpuBackend {
  buffersLeft = Number.POSITIVE_INFINITY;

  override allocate(bytes: number, dtype: DType) {
    if (this.buffersLeft === 0) throw new OutOfMemoryError("no memory is left");
    this.buffersLeft--;
    return super.allocate(bytes, dtype);
  }
}

/** Makes something with memory for 0, 1, 2 … buffers, until there is enough. */
async function expectWhole(backend: ScarceBackend, least: number, make: () => { free(): void }): Promise<void> {
  const live = (): number => backend.statistics().liveBuffers;
  const before = live();
  const whole = make();
  const needed = live() - before;
  whole.free();
  assert.equal(live(), before);
  assert.ok(needed >= least, `of ${needed} buffers only`);
  for (let room = 0; room < needed; room++) {
    backend.buffersLeft = room;
    await throwsMessage(make, "no memory is left");
    assert.equal(live(), before, `after ${room} of ${needed} buffers`);
    // Nor does a scope around it free anything twice.
    backend.buffersLeft = room;
    await throwsMessage(() => scope(make), "no memory is left");
    assert.equal(live(), before, `in a scope, after ${room} of ${needed} buffers`);
  }
  backend.buffersLeft = Number.POSITIVE_INFINITY;
}

const layer = { isLinear: true, forwardCopy: true };
const entries = new Map([
  ["table", { shape: [40, 12], forwardCopy: true }],
  ["norm", { shape: [12] }],
  ["gate", { shape: [24, 12], ...layer, group: "gated" }],
  ["up", { shape: [24, 12], ...layer, group: "gated" }],
  ["down", { shape: [12, 24], ...layer }],
]);

describe("engine/want-of-memory", (test) => {
  /** Buffers so small that nothing shares one. */
  const small = { maxBufferBytes: 40 * 12 * 4 };

  test("an arena", async () => {
    const backend = new ScarceBackend(small);
    await expectWhole(backend, 12, () => new ParameterArena(backend, entries, { trainable: true }));
  });

  test("an arena with copies in f16", async () => {
    const backend = new ScarceBackend();
    const halves = new Map([...entries].map(([name, { shape }]) => [name, { shape, halfCopies: shape.length === 2 }]));
    await expectWhole(backend, 8, () => new ParameterArena(backend, halves));
  });

  for (const precision of ["f32", "f16"] as const)
    test(`slots in ${precision}`, async () => {
      for (const options of [small, {}]) {
        const backend = new ScarceBackend(options);
        const arena = new ParameterArena(backend, entries);
        await expectWhole(backend, 2, () => new SlotWeights(arena, 3, precision));
        arena.free();
      }
    });

  test("weights in f16", async () => {
    const backend = new ScarceBackend();
    const halves = new Map([...entries].map(([name, { shape }]) => [name, { shape, isHalf: shape.length === 2 }]));
    await expectWhole(backend, 5, () => new HalfWeights(backend, halves));
  });

  test("keepAll: what was made before it, and what scopes within it own, is freed by those alone", async () => {
    const backend = new CpuBackend();
    const live = (): number => backend.statistics().liveBuffers;
    const fail = (..._made: unknown[]): never => {
      throw new Error("on purpose");
    };
    scope(() => {
      const outside = empty(backend, [4]);
      assert.throws(() => keepAll(() => fail(keep(outside))));
      assert.ok(!outside.storage.isFreed, "kept within, but made before");
      outside.free();
    });
    assert.equal(live(), 0);
    // Made in a scope within, and taken out of it.
    assert.throws(() => keepAll(() => fail(scope(() => keep(empty(backend, [4]))))));
    assert.equal(live(), 0);
    // One whole keepAll in another that fails.
    assert.throws(() => keepAll(() => fail(keepAll(() => [empty(backend, [4]), empty(backend, [4])]))));
    assert.equal(live(), 0);
    const kept = scope(() => keepAll(() => [keep(empty(backend, [4])), empty(backend, [4])]));
    assert.equal(live(), 2);
    for (const tensor of kept) tensor.free();
  });
});
