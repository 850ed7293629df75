// A step that is replayed gives the bits of a step that runs, whatever has changed since it was recorded; and what must not
// be replayed runs.
import assert from "node:assert/strict";
import { accumulateKernel } from "../../engine/accumulate.ts";
import { record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { BufferPool } from "../../engine/backends/webgpu/pool.ts";
import { Recorded } from "../../engine/backends/webgpu/recorded.ts";
import { MovedWeights } from "../../engine/moved-weights.ts";
import { add, mul, scale } from "../../engine/ops/elementwise/elementwise.ts";
import { linear } from "../../engine/ops/matmul/linear.ts";
import { ParameterArena } from "../../engine/parameter-arena.ts";
import { assume, fromHost, Replay } from "../../engine/replay.ts";
import { RowTables } from "../../engine/row-tables.ts";
import { run } from "../../engine/run.ts";
import { keep, scope } from "../../engine/scope.ts";
import { SlotWeights } from "../../engine/slot-weights.ts";
import { copyElements, empty, fromArray, type Tensor } from "../../engine/tensor.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";

const rows = 6;
const width = 8;

/** y = (x · Wᵀ + x) ⊙ factor, with a factor that the host gives for each step. */
function stepOf(backend: Backend) {
  const x = fromArray(backend, normals(1, rows * width), [rows, width]);
  const weight = fromArray(backend, normals(2, width * width), [width, width]);
  const y = empty(backend, [rows, width]);
  const host = { factor: 1 };
  const body = (): void => {
    const factors = fromHost(backend, () => new Array(rows * width).fill(host.factor), [rows, width]);
    copyInto(mul(add(linear(x, weight), x), factors), y);
  };
  const free = (): void => {
    for (const tensor of [x, weight, y]) tensor.free();
  };
  return { x, weight, y, host, body, free };
}

/** By a kernel. */
function copyInto(x: Tensor, y: Tensor): void {
  run(accumulateKernel, { x, y: { tensor: y, add: false } }, { rowSize: x.rowSize, factor: 1 });
}

const replays = (backend: Backend): boolean => backend.recorder !== undefined;

async function expectBits(what: string, y: Tensor, body: () => void): Promise<void> {
  const replayed = await y.read();
  y.write(new Float32Array(y.size));
  scope(body);
  sameBits(what, await y.read(), replayed);
}

describe("engine/replay", (test) => {
  test("other inputs, other numbers of the host, other weights in the same tensors: the bits of running again", async () => {
    for (const { name, backend } of await testBackends()) {
      const { x, weight, y, host, body, free } = stepOf(backend);
      const replay = new Replay(backend);
      for (let step = 0; step < 5; step++) {
        host.factor = step + 0.5;
        x.write(normals(10 + step, x.size));
        if (step === 3) weight.write(normals(99, weight.size));
        replay.run("step", body);
        await expectBits(`${name}, step ${step}`, y, body);
      }
      assert.deepEqual([replay.ran, replay.replayed], replays(backend) ? [1, 4] : [5, 0], name);
      free();
    }
  });

  test("several replays in one submission: each sees what was written before it", async () => {
    const { backend } = await webgpuBackend();
    const { x, y, host, body, free } = stepOf(backend);
    const replay = new Replay(backend);
    const given = [1, 2, 3].map((step) => normals(20 + step, x.size));
    const kept = given.map(() => empty(backend, y.shape));
    replay.run("step", body);
    given.forEach((values, step) => {
      x.write(values);
      host.factor = step;
      replay.run("step", body);
      copyElements(y, kept[step]);
    });
    const found = await Promise.all(kept.map((tensor) => tensor.read()));
    assert.equal(replay.replayed, 3);
    for (const [step, values] of given.entries()) {
      x.write(values);
      host.factor = step;
      scope(body);
      sameBits(`step ${step}`, await y.read(), found[step]);
    }
    for (const tensor of kept) tensor.free();
    free();
  });

  test("dispatches, floating-point operations and submissions are counted as if it ran", async () => {
    const { backend } = await webgpuBackend();
    const { y, body, free } = stepOf(backend);
    const replay = new Replay(backend);
    const counted = async () => {
      const before = backend.statistics();
      replay.run("step", body);
      await y.read();
      const after = backend.statistics();
      const of = ["dispatches", "flops", "submissions", "liveBuffers", "liveBytes"] as const;
      return of.map((count) => after[count] - before[count]);
    };
    const ran = await counted();
    assert.equal(ran[0], 5);
    assert.deepEqual(await counted(), ran);
    assert.equal(replay.replayed, 1);
    free();
  });

  test("thousands of dispatches, beyond the length of a submission and the places of parameter blocks", async () => {
    const { backend } = await webgpuBackend();
    const y = fromArray(backend, [0], [1]);
    const one = fromArray(backend, [1], [1]);
    const own = stepOf(backend);
    const body = (): void => {
      for (let i = 0; i < 700; i++) scope(() => void scale(one, i + 1));
    };
    const replay = new Replay(backend);
    for (let step = 0; step < 4; step++) replay.run("long", body);
    // Others take the places of parameter blocks in between.
    for (let i = 0; i < 5000; i++) scope(() => void scale(one, -i));
    replay.run("own", own.body);
    replay.run("long", body);
    replay.run("own", own.body);
    assert.deepEqual([replay.ran, replay.replayed], [2, 5]);
    await expectBits("after many", own.y, own.body);
    own.free();
    y.free();
    one.free();
  });

  test("a tensor that was freed, and made again in the same memory or another: the step runs again", async () => {
    for (const { name, backend } of await testBackends()) {
      const { y, body, free, ...own } = stepOf(backend);
      const replay = new Replay(backend);
      let factor = fromArray(backend, normals(3, y.size), y.shape);
      const both = (): void => {
        body();
        copyInto(mul(y, factor), own.x);
      };
      for (let step = 0; step < 3; step++) {
        replay.run("step", both);
        factor.free();
        factor = fromArray(backend, normals(50 + step, y.size), y.shape);
      }
      assert.deepEqual([replay.ran, replay.replayed], [3, 0], name);
      factor.free();
      free();
    }
  });

  test("memory between its dispatches that others use now: it runs with other memory, and theirs keeps its content", async () => {
    const { backend } = await webgpuBackend();
    const { y, body, free } = stepOf(backend);
    const replay = new Replay(backend);
    replay.run("step", body);
    const others = Array.from({ length: 40 }, (_, i) => fromArray(backend, normals(i, y.size), y.shape));
    replay.run("step", body);
    assert.deepEqual([replay.ran, replay.replayed], [2, 0]);
    await expectBits("with other memory", y, body);
    for (const [i, tensor] of others.entries()) {
      sameBits(`other ${i}`, await tensor.read(), Float32Array.from(normals(i, y.size)));
      tensor.free();
    }
    replay.run("step", body);
    assert.equal(replay.replayed, 1);
    free();
  });

  test("a step that writes in another way, or frees what is older than it, runs each time", async () => {
    const { backend } = await webgpuBackend();
    const { y, body, free } = stepOf(backend);
    const replay = new Replay(backend);
    let value = 0;
    const writes = (): void => {
      body();
      copyInto(add(y, fromArray(backend, new Array(y.size).fill(++value), y.shape)), y);
    };
    for (let step = 0; step < 3; step++) replay.run("writes", writes);
    let older = keep(fromArray(backend, [1], [1]));
    const frees = (): void => {
      body();
      scale(older, 2);
      older.free();
      older = keep(fromHost(backend, () => [1], [1]));
    };
    for (let step = 0; step < 3; step++) replay.run("frees", frees);
    older.free();
    assert.deepEqual([replay.ran, replay.replayed, value], [6, 0, 3]);
    free();
  });

  test("a step that throws is not recorded; a tape gets the ops themselves; the oldest of many recordings is dropped", async () => {
    const { backend } = await webgpuBackend();
    const { y, body, free } = stepOf(backend);
    const replay = new Replay(backend);
    assert.throws(() =>
      replay.run("step", () => {
        body();
        throw new Error("half-way");
      }),
    );
    replay.run("step", body);
    record(() => replay.run("taped", body));
    record(() => replay.run("taped", body));
    assert.deepEqual([replay.ran, replay.replayed], [4, 0]);
    for (let key = 0; key < 8; key++) replay.run(String(key), body);
    replay.run("step", body);
    replay.run("7", body);
    assert.deepEqual([replay.ran, replay.replayed], [13, 1]);
    await expectBits("after a throw", y, body);
    free();
  });

  test("a step that was recorded by itself: inside recorded work, and with a tape, it runs", async () => {
    const { backend } = await webgpuBackend();
    const { y, ...inner } = stepOf(backend);
    const twice = empty(backend, y.shape);
    const [replay, outer] = [new Replay(backend), new Replay(backend)];
    const body = (): void => copyInto(scale(inner.x, 2), y); // no writes of the host, which would be noted anyway
    const both = (): void => {
      replay.run("step", body);
      copyInto(add(y, y), twice);
    };
    replay.run("step", body);
    for (let step = 0; step < 3; step++) {
      inner.x.write(normals(30 + step, y.size));
      outer.run("both", both);
      await expectBits(`step ${step}`, twice, both);
    }
    assert.deepEqual([outer.ran, outer.replayed], [1, 2]);

    const weight = fromArray(backend, normals(4, 4), [2, 2]);
    weight.requiresGradient = true;
    const taped: Tensor[] = [];
    const tapedBody = (): void => void taped.push(scale(weight, 3));
    replay.run("taped", tapedBody);
    record(() => replay.run("taped", tapedBody));
    assert.equal(taped.length, 2);
    for (const tensor of [weight, twice]) tensor.free();
    inner.free();
  });

  test("memory that only the host writes, and that others use now: theirs keeps its content", async () => {
    const { backend } = await webgpuBackend();
    const { body, free } = stepOf(backend);
    const replay = new Replay(backend);
    const size = 1000;
    const unread = (): void => {
      body();
      fromHost(backend, () => new Array(size).fill(7), [size]); // no dispatch reads it
    };
    replay.run("step", unread);
    replay.run("step", unread);
    const others = Array.from({ length: 40 }, (_, i) => fromArray(backend, normals(i, size), [size]));
    replay.run("step", unread);
    for (const [i, tensor] of others.entries()) {
      sameBits(`other ${i}`, await tensor.read(), Float32Array.from(normals(i, size)));
      tensor.free();
    }
    assert.deepEqual([replay.ran, replay.replayed], [2, 1]);
    free();
  });

  test("a buffer that was returned to the driver: a recording that used it is not current", () => {
    const gpu = { destroy: () => undefined } as unknown as GPUBuffer;
    const limits = { maxBufferBytes: 2 ** 20, totalBytes: 2 ** 20 };
    const pool = new BufferPool(
      () => gpu,
      limits,
      () => undefined,
    );
    const buffer = pool.allocate(256, "older");
    const work = new Recorded([], [{ buffer, allocation: buffer.allocations }], []);
    assert.ok(work.isCurrent);
    pool.release(buffer);
    assert.ok(!work.isCurrent);
    pool.trim(0);
    assert.ok(!work.isCurrent);
  });

  test("what weights and tables assume: a changed version means that the step runs again", async () => {
    const { backend } = await webgpuBackend();
    const replay = new Replay(backend);
    const ranAfter = (key: string, body: () => void, changes: readonly (() => void)[]): void => {
      replay.run(key, body);
      replay.run(key, body); // a table that was written is recorded now
      for (const [i, change] of changes.entries()) {
        replay.run(key, body);
        const { ran } = replay;
        replay.run(key, body);
        assert.equal(replay.ran, ran, `${key}: nothing has changed before change ${i}`);
        change();
        replay.run(key, body);
        assert.equal(replay.ran, ran + 1, `${key}: change ${i}`);
      }
    };
    const source = { version: 0 };
    ranAfter("own", () => assume(source), [() => void source.version++]);
    const x = fromArray(backend, normals(1, 16), [2, 8]);
    const arena = new ParameterArena(backend, new Map([["w", { shape: [8, 8], forwardCopy: true, isLinear: true }]]));
    arena.load("w", normals(2, 64));
    const rows = [
      { start: 0, count: 1, point: 0 },
      { start: 1, count: 1, point: 1 },
    ];
    ranAfter("arena", () => void linear(x, arena.get("w")), [
      () => arena.load("w", normals(3, 64)),
      () => arena.valuesChanged(),
    ]);
    for (const [name, weights] of [
      ["slots", new SlotWeights(arena, 2)],
      ["moved", new MovedWeights(arena)],
    ] as const) {
      const place = (): void => weights.placeAlong([() => [], () => []]);
      place();
      ranAfter(name, () => void linear(x, weights.get("w"), null, rows), [place]);
      weights.free();
    }
    const tables = new RowTables(backend);
    tables.assign(
      new Map([
        [0, 0],
        [1, 1],
      ]),
    );
    const other = (count: number): void => {
      const table = [
        { start: 0, count, point: 0 },
        { start: count, count: 1, point: 1 },
      ];
      tables.tilesOf("test", table, count + 1, 4);
    };
    ranAfter("tables", () => void tables.tilesOf("test", rows, 2, 4), [
      () => [2, 3, 4, 5].forEach(other),
      () => tables.free(),
    ]);
    tables.free();
    arena.free();
    x.free();
  });

  test("copyElements: over the cuts of both tensors; other sizes and types are refused", async () => {
    for (const { name, backend } of await testBackends()) {
      const size = backend instanceof CpuBackend ? 40 : 9000;
      const from = fromArray(backend, normals(5, size), [size]);
      const to = fromArray(backend, new Float32Array(size + 30), [size + 30]);
      copyElements(from.sliceRows(10, size - 20), to.sliceRows(30, size - 20));
      const found = await to.read();
      sameBits(name, found.slice(30, size + 10), (await from.read()).slice(10, size - 10));
      assert.ok(
        found.slice(0, 30).every((value) => value === 0) && found.slice(size + 10).every((value) => value === 0),
      );
      assert.throws(() => copyElements(from, to), /expected \d+ elements of f32, got room/);
      from.free();
      to.free();
    }
  });
});
