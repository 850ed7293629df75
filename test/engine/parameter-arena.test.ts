import assert from "node:assert/strict";
import { record } from "../../engine/autograd.ts";
import type { Backend } from "../../engine/backends/backend.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { add } from "../../engine/ops/elementwise/elementwise.ts";
import { weightedSum } from "../../engine/ops/loss/weighted-sum.ts";
import { type ArenaEntry, type ArenaPart, arenaMemory, ParameterArena } from "../../engine/parameter-arena.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { fromArray, type Shape, sizeOf } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";

const parts: readonly ArenaPart[] = ["values", "gradients", "moment1", "moment2"];

/** Small, prime, larger than 16 KiB, exactly 16 KiB, one element more, a cut matrix with a copy. */
const shapes: Readonly<Record<string, Shape>> = {
  one: [1],
  prime: [7, 13],
  large: [131, 67],
  whole: [64, 64],
  "one more": [4097],
  deep: [3, 2, 9],
  matrix: [301, 24],
};

function entries(from: Readonly<Record<string, Shape>> = shapes): Map<string, ArenaEntry> {
  return new Map(Object.entries(from).map(([name, shape]) => [name, { shape, forwardCopy: name === "matrix" }]));
}

function liveBuffers(backend: Backend): number {
  return backend.statistics().liveBuffers;
}

/** What panels [⌈out/8⌉, in, 8] of a matrix [out, in] hold. */
function panelsOf(values: ArrayLike<number>, out: number, width: number): Float32Array {
  const panels = new Float32Array(Math.ceil(out / 8) * width * 8);
  for (let o = 0; o < out; o++)
    for (let i = 0; i < width; i++) panels[(Math.floor(o / 8) * width + i) * 8 + (o % 8)] = values[o * width + i];
  return panels;
}

describe("engine/parameter-arena", (test) => {
  test("every tensor of every part has elements of its own", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const before = liveBuffers(backend);
      const arena = new ParameterArena(backend, entries(), { trainable: true });
      const expected = new Map<string, Float64Array>();
      parts.forEach((part, p) => {
        arena.names.forEach((name, n) => {
          const values = normals(100 * p + n + 1, sizeOf(shapes[name]));
          expected.set(part + name, values);
          arena.load(name, values, part);
        });
      });
      for (const part of parts)
        for (const [name, values] of await arena.read(arena.names, part))
          sameBits(`${where}: ${part} ${name}`, values, Float32Array.from(expected.get(part + name) ?? []));
      for (const name of arena.names)
        sameBits(
          `${where}: ${name}`,
          await arena.value(name).read(),
          Float32Array.from(expected.get(`values${name}`) ?? []),
        );

      arena.free();
      assert.equal(liveBuffers(backend), before, `${where}: buffers left behind`);
    }
  });

  test("what lies between tensors is zero in every part", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = new ParameterArena(backend, entries(), { trainable: true });
      for (const part of parts)
        for (const name of arena.names) arena.load(name, new Float32Array(sizeOf(shapes[name])).fill(1), part);
      const all = Object.values(shapes).reduce((sum, shape) => sum + sizeOf(shape), 0);
      for (const part of parts) {
        let ones = 0;
        for (const buffer of arena.buffers(part))
          for (const value of await buffer.read()) {
            assert.ok(value === 0 || value === 1, `${where}: ${part} holds ${value}`);
            ones += value;
          }
        assert.equal(ones, all, `${where}: ${part}`);
      }
      arena.free();
    }
  });

  test("tensors start at multiples of 64 elements, and one that fits in a buffer is not cut", async () => {
    for (const limit of [16384, 16640, 16388, 16384 + 252, 2 ** 20]) {
      const backend = new CpuBackend({ maxBufferBytes: limit });
      const arena = new ParameterArena(backend, entries(), { trainable: true });
      for (const name of arena.names) {
        const { segments, rows, rowSize } = arena.value(name);
        assert.equal(segments.length === 1, sizeOf(shapes[name]) * 4 <= limit - (limit % 256), `${name} at ${limit}`);
        assert.equal(
          segments.reduce((sum, s) => sum + s.rows, 0),
          rows,
        );
        segments.forEach(({ base, buffer, rows: own }, i) => {
          assert.equal(base % 64, 0, name);
          assert.ok(buffer.bytes <= limit, `${name}: a buffer of ${buffer.bytes} bytes at ${limit}`);
          assert.ok((base + own * rowSize) * 4 <= buffer.bytes, name);
          for (const other of [arena.gradient(name), arena.moment1(name), arena.moment2(name)])
            assert.equal(other.segments[i].base, base, `${name}: another place in another part`);
        });
      }
      arena.free();
    }
  });

  test("a row of the limit's size works, one of 256 bytes more is refused with numbers", async () => {
    const backend = new CpuBackend({ maxBufferBytes: 16384 });
    const fits = new ParameterArena(backend, entries({ wide: [3, 4096] }));
    assert.equal(fits.value("wide").segments.length, 3);
    fits.free();
    await throwsMessage(
      () => new ParameterArena(backend, entries({ wide: [3, 4160] })),
      "wide",
      "16640 bytes",
      "16384",
    );
    assert.equal(liveBuffers(backend), 0);
  });

  test("memory() is what is allocated, and is known beforehand", async () => {
    for (const limit of [16384, 16640, undefined])
      for (const options of [
        {},
        { gradients: true },
        { trainable: true },
        { trainable: true, dtype: "f64" as const },
      ]) {
        const backend = new CpuBackend({ maxBufferBytes: limit });
        const planned = arenaMemory(backend, entries(), options);
        const arena = new ParameterArena(backend, entries(), options);
        assert.deepEqual(arena.memory(), planned);
        const { values, gradients, moments, copies } = planned;
        assert.equal(backend.statistics().liveBytes, values + gradients + moments + copies);
        assert.deepEqual(
          [values > 0, copies > 0, gradients > 0, moments > 0],
          [true, true, "gradients" in options || "trainable" in options, "trainable" in options],
        );
        arena.free();
      }
  });

  test("copies for the forward product follow load", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = new ParameterArena(backend, entries(), {});
      const parameter = arena.get("matrix");
      assert.ok(parameter.kind === "tensor" && parameter.panels !== null);
      assert.equal(parameter.tensor, arena.value("matrix"));
      const [out, width] = shapes["matrix"];
      sameBits(`${where}: at first`, await parameter.panels.read(), new Float32Array(parameter.panels.size));
      const values = normals(3, out * width);
      arena.load("matrix", values);
      arena.refreshCopies();
      sameBits(`${where}: loaded`, await parameter.panels.read(), panelsOf(values, out, width));
      const { dispatches } = backend.statistics();
      arena.refreshCopies();
      assert.equal(backend.statistics().dispatches, dispatches, `${where}: nothing was loaded, nothing is to do`);
      const other = arena.get("prime");
      assert.ok(other.kind === "tensor" && other.panels === null);
      arena.free();
    }
  });

  test("a state put back is the state that was read, copies included", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = new ParameterArena(backend, entries(), { trainable: true });
      for (const part of parts)
        for (const [n, name] of arena.names.entries()) arena.load(name, normals(n + 40, sizeOf(shapes[name])), part);
      const state = await arena.readState();
      const data = new Map([...state].map(([key, entry]) => [key, entry.data]));
      assert.equal(state.size, 3 * arena.names.length);
      const fresh = new ParameterArena(backend, entries(), { trainable: true });
      fresh.loadState(data);
      for (const [key, entry] of await fresh.readState()) {
        assert.deepEqual(entry.shape, state.get(key)?.shape);
        sameBits(`${where}: ${key}`, entry.data, data.get(key) ?? new Float32Array());
      }
      const parameter = fresh.get("matrix");
      assert.ok(parameter.kind === "tensor" && parameter.panels !== null);
      const [out, width] = shapes["matrix"];
      sameBits(`${where}: copy`, await parameter.panels.read(), panelsOf(data.get("values.matrix") ?? [], out, width));
      fresh.free();
      arena.free();
    }
  });

  test("a state of another model is refused, and changes nothing", async () => {
    const arena = new ParameterArena(new CpuBackend(), entries({ a: [3], b: [2, 2] }), { trainable: true });
    const state = new Map([...(await arena.readState())].map(([key, { data }]) => [key, data.map(() => 7)]));
    state.delete("moment1.a");
    state.set("values.c", new Float32Array(1));
    state.set("moment2.b", new Float32Array(5));
    await throwsMessage(
      () => arena.loadState(state),
      "moment1.a is missing",
      "values.c is not known",
      "moment2.b: expected 4 elements, got 5",
    );
    for (const { data } of (await arena.readState()).values()) assert.ok(data.every((v) => v === 0));
  });

  test("gradients of micro-batches add up, and begin anew after clearGradients", async () => {
    const given = { p: [5], q: [67, 3], r: [4099] };
    for (const { name: where, backend } of await testBackends()) {
      const arena = new ParameterArena(backend, entries(given), { trainable: true });
      const before = liveBuffers(backend);
      // p is used twice in one pass; r in none.
      const pass = (seed: number): Promise<void> =>
        scopeAsync(async () => {
          const { p, q } = { p: arena.value("p"), q: arena.value("q") };
          const weights = fromArray(backend, normals(seed, 5));
          const flat = fromArray(backend, normals(seed + 1, 67 * 3), [67, 3]);
          const recording = record(() => ({
            loss: weightedSum(add(p, p), weights),
            sum: add(q, flat),
          }));
          const one = fromArray(backend, [1]);
          recording.backward(
            new Map([
              [recording.result.loss, one],
              [recording.result.sum, flat],
            ]),
            arena.gradients,
          );
        });
      const expected = (...seeds: number[]): Record<string, Float64Array> => ({
        p: Float64Array.from({ length: 5 }, (_, i) => seeds.reduce((sum, s) => sum + 2 * normals(s, 5)[i], 0)),
        q: Float64Array.from({ length: 201 }, (_, i) => seeds.reduce((sum, s) => sum + normals(s + 1, 201)[i], 0)),
        r: new Float64Array(4099),
      });
      const check = async (context: string, wanted: Record<string, Float64Array>): Promise<void> => {
        arena.completeGradients();
        // Numbers of order one, three additions.
        for (const [name, values] of await arena.read(arena.names, "gradients"))
          assertClose(`${where}: ${context}: ${name}`, values, wanted[name], { absolute: 2e-6 });
      };
      for (const name of arena.names)
        arena.load(name, new Float32Array(sizeOf(given[name as keyof typeof given])).fill(Number.NaN), "gradients");
      arena.clearGradients();
      await pass(11);
      await pass(21);
      await check("two passes", expected(11, 21));
      arena.clearGradients();
      await pass(31);
      await check("one pass after clearing", expected(31));
      assert.equal(liveBuffers(backend), before, `${where}: buffers left behind`);
      arena.free();
    }
  });

  test("without room for gradients the tape does not follow the values", async () => {
    const backend = new CpuBackend();
    const arena = new ParameterArena(backend, entries({ a: [3] }));
    assert.equal(arena.value("a").requiresGradient, false);
    assert.equal(arena.gradients.target(arena.value("a")), undefined);
    await throwsMessage(() => arena.gradient("a"), "without room for gradients");
    await throwsMessage(() => arena.get("b"), '"b"');
    await throwsMessage(() => arena.load("a", [1, 2]), "a", "expected 3", "got 2");
  });
});
