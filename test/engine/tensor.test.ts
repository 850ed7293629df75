import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { bytesPerElement, type DType } from "../../engine/dtype.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { empty, fromArray, readTensors, segmentRows, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";
import { normals, sameBits } from "./check-op.ts";

const limits = [16384, 16640];
const rowsOf = (maxBufferBytes: number, shape: number[], dtype: DType = "f32"): number[] =>
  segmentRows({ limits: { maxBufferBytes, segmentAlignment: 256 } }, shape, dtype, "x");
const segments = (x: Tensor): number[] => x.segments.map((s) => s.rows);

describe("engine/tensor", (test) => {
  test("segments hold all rows, each within the limit, cut at a multiple of 256 bytes where one fits", () => {
    for (const limit of limits)
      for (const dtype of ["f32", "u32", "f64"] as const)
        for (const width of [1, 3, 60, 63, 64, 65, 127, 128, 1000, 2048])
          for (const rows of [1, 2, 64, 65, 66, 129, 1000, 4097]) {
            const what = `[${rows}, ${width}] ${dtype} at ${limit}`;
            const rowBytes = width * bytesPerElement[dtype];
            const counts = rowsOf(limit, [rows, width], dtype);
            assert.is(
              counts.reduce((sum, n) => sum + n, 0),
              rows,
              what,
            );
            for (const n of counts) assert.ok(n > 0 && n * rowBytes <= limit, `${what}: ${counts}`);
            if (counts.length === 1) continue;
            assert.ok(rows * rowBytes > limit, `${what}: cut without need`);
            // The smallest number of rows whose bytes are a multiple of 256.
            let aligned = 1;
            while ((aligned * rowBytes) % 256 !== 0) aligned++;
            const expected =
              aligned * rowBytes <= limit
                ? aligned * Math.floor(limit / (aligned * rowBytes)) // the most of them
                : Math.floor(limit / rowBytes); // each in a buffer of its own
            for (const n of counts.slice(0, -1)) assert.is(n, expected, what);
          }
  });

  test("where the cuts fall, by hand", () => {
    assert.equal(rowsOf(16384, [64, 64]), [64]); // 256 bytes a row: 64 rows fill the limit
    assert.equal(rowsOf(16384, [65, 64]), [64, 1]);
    assert.equal(rowsOf(16640, [65, 64]), [65]);
    assert.equal(rowsOf(16640, [66, 64]), [65, 1]);
    assert.equal(rowsOf(16640, [130, 63]), [64, 64, 2]); // 252 bytes: 66 fit, of which 64 are aligned
    assert.equal(rowsOf(16384, [65, 65]), [63, 2]); // 260 bytes: 64 would be aligned but do not fit
    assert.equal(rowsOf(16640, [65, 65]), [64, 1]);
    assert.equal(rowsOf(16388, [4097, 1]), [4097]); // whole at the limit, though that is no multiple of 256
    assert.equal(rowsOf(16388, [4098, 1]), [4096, 2]);
    assert.equal(rowsOf(16384, []), [1]);
    assert.equal(rowsOf(16384, [0, 64]), [0]);
  });

  test("the largest row that fits, and the smallest that does not, with numbers", async () => {
    for (const limit of limits) {
      const width = limit / 4;
      assert.equal(rowsOf(limit, [3, width]), [1, 1, 1]);
      const error = await throwsMessage(
        () => rowsOf(limit, [3, width + 1]),
        `x: one row of [3,${width + 1}] f32 is ${limit + 4} bytes`,
        `${limit}`,
        "--adapter",
      );
      assert.is(error.name, "OutOfMemoryError");
    }
  });

  test("what is written is read back, in one or many segments, of every type", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const before = backend.statistics().liveBuffers;
        for (const shape of [[], [1], [7], [0, 5], [3, 0], [65, 64], [200, 63], [9000], [5, 20, 100]]) {
          const values = normals(1, sizeOf(shape), 1000);
          const types: DType[] = backend.kind === "cpu" ? ["f32", "i32", "u32", "f64"] : ["f32", "i32", "u32"];
          const tensors = types.map((dtype) =>
            fromArray(
              backend,
              dtype === "u32"
                ? values.map(Math.abs).map(Math.trunc)
                : values.map((v) => (dtype === "i32" ? Math.trunc(v) : v)),
              shape,
              dtype,
            ),
          );
          const read = await readTensors(tensors);
          read.forEach((array, i) => {
            const expected = values.map((v) =>
              types[i] === "u32" ? Math.trunc(Math.abs(v)) : types[i] === "i32" ? Math.trunc(v) : v,
            );
            assert.is(array.BYTES_PER_ELEMENT, bytesPerElement[types[i]]);
            assert.equal(
              [...array],
              [...expected].map((v) => v + 0),
              `${name}: [${shape}] ${types[i]}`,
            );
          });
          for (const tensor of tensors) tensor.free();
        }
        assert.is(backend.statistics().liveBuffers, before, name);
      });
  });

  test("a second write replaces all elements", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const x = fromArray(backend, normals(1, 6000), [100, 60]);
        x.write(normals(2, 6000));
        sameBits(name, await x.read(), Float32Array.from(normals(2, 6000)));
      });
  });

  test("write refuses another number of elements", async () => {
    const x = empty(new CpuBackend(), [2, 3]);
    await throwsMessage(() => x.write([1, 2, 3, 4, 5]), "expected 6 elements for [2,3], got 5");
    await throwsMessage(() => x.write(new Float32Array(7)), "got 7");
  });

  test("fresh memory of the plain backend is NaN", async () => {
    for (const dtype of ["f32", "f64"] as const)
      assert.ok((await empty(new CpuBackend(), [5], dtype).read()).every(Number.isNaN));
  });

  test("a view has the same elements, also across segments", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const values = Float32Array.from(normals(3, 200 * 64));
        const x = fromArray(backend, values, [200, 64]);
        for (const shape of [[200, 4, 16], [200 * 64], [1600, 8], [200 * 16, 2, 2]]) {
          const y = x.view(shape);
          assert.equal(y.shape, shape);
          assert.is(y.segments.length, x.segments.length, name);
          sameBits(`${name}: [${shape}]`, await y.read(), values);
        }
        // Through the view into the same memory.
        x.view([1600, 8]).write(normals(4, 200 * 64));
        sameBits(name, await x.read(), Float32Array.from(normals(4, 200 * 64)));
      });
  });

  test("a view merges rows where no segment is cut inside one, and is refused where one is", async () => {
    const backend = new CpuBackend({ maxBufferBytes: 16384 });
    const x = empty(backend, [130, 64]);
    assert.equal(segments(x), [64, 64, 2]);
    assert.equal(segments(x.view([65, 128])), [32, 32, 1]);
    assert.equal(segments(x.view([130 * 64])), [4096, 4096, 128]);
    await throwsMessage(() => x.view([26, 5 * 64]), "[130,64]", "cut inside a row of [26,320]");
    // One segment has no cut to mind.
    assert.equal(empty(backend, [35, 64]).view([7, 320]).shape, [7, 320]);
  });

  test("a view refuses another number of elements", () =>
    throwsMessage(
      () => empty(new CpuBackend(), [2, 3]).view([5]),
      "expected 6 elements as [2,3], got [5], 5 elements",
    ));

  test("sliceRows gives these rows without a copy", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const rows = 200;
        const values = Float32Array.from(normals(5, rows * 64));
        const x = fromArray(backend, values, [rows, 8, 8]);
        const live = backend.statistics().liveBuffers;
        for (const [start, count] of [
          [0, rows],
          [0, 1],
          [rows - 1, 1],
          [63, 2],
          [64, 64],
          [64, 65],
          [1, rows - 2],
          [0, 0],
          [64, 0],
          [rows, 0],
        ]) {
          const slice = x.sliceRows(start, count);
          assert.equal(slice.shape, [count, 8, 8]);
          assert.is(
            segments(slice).reduce((sum, n) => sum + n, 0),
            count,
          );
          assert.ok(
            count === 0 || segments(slice).every((n) => n > 0),
            `${name}: ${start}, ${count}: ${segments(slice)}`,
          );
          sameBits(`${name}: ${start}, ${count}`, await slice.read(), values.slice(start * 64, (start + count) * 64));
        }
        // A slice of a slice, and what is written through it.
        const inner = x.sliceRows(50, 100).sliceRows(10, 30);
        sameBits(`${name}: slice of a slice`, await inner.read(), values.slice(60 * 64, 90 * 64));
        const changed = Float32Array.from(normals(6, 30 * 64));
        inner.write(changed);
        const expected = values.slice();
        expected.set(changed, 60 * 64);
        sameBits(`${name}: written through a slice`, await x.read(), expected);
        assert.is(backend.statistics().liveBuffers, live, name);
      });
  });

  test("sliceRows refuses rows that are not there", async () => {
    const x = empty(new CpuBackend(), [4, 2]);
    for (const [start, count] of [
      [-1, 1],
      [0, 5],
      [4, 1],
      [2, -1],
    ])
      await throwsMessage(() => x.sliceRows(start, count), "sliceRows", "of [4,2]");
  });
});
