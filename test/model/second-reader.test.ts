// What we write, read by a reader that is not ours: npm's safetensors. It takes files without `__metadata__`, such as a
// run's state; model folders have metadata, as transformers wants it, and are read by Python's library (docs/transformers.md).
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import library from "safetensors";
import * as assert from "uvu/assert";
import { CpuBackend, ParameterArena, storedDtypes } from "../../engine/index.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../../model/safetensors.ts";
import { loadState, saveState } from "../../rl/checkpoint.ts";
import { describe } from "../support.ts";

describe("safetensors: a second reader", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-second-reader-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));
  // A copy, since the package takes the buffer behind an array to begin where the array does.
  const opened = (path: string) => new library.SafeTensor(new Uint8Array(readFileSync(path)));
  const bytesOf = (numbers: ArrayBufferView): Buffer =>
    Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);

  test("every dtype, name and shape: the same places and bytes as our own reader finds", async () => {
    const path = join(scratch, "all.safetensors");
    const tensors: TensorToWrite[] = [
      { name: "f32", dtype: "f32", shape: [2, 3], data: Float32Array.of(1, -2.5, 3e38, -0, Number.NaN, 1e-45) },
      { name: "f64 😀 ü", dtype: "f64", shape: [2], data: Float64Array.of(Math.PI, -1e300) },
      { name: "bf16", dtype: "bf16", shape: [3], data: Float32Array.of(1, 2, -3) },
      { name: 'f16 "quoted"', dtype: "f16", shape: [1, 1, 2], data: Float32Array.of(0.5, 65504) },
      { name: "i32", dtype: "i32", shape: [1], data: Int32Array.of(-7) },
      { name: "none", dtype: "f32", shape: [0, 4], data: new Float32Array(0) },
      { name: "scalar", dtype: "f32", shape: [], data: Float32Array.of(9) },
    ];
    assert.ok(tensors.every(({ dtype }) => storedDtypes.includes(dtype)));
    await writeSafetensors(path, tensors, {});
    const theirs = opened(path);
    const ours = await openSafetensors(path);
    assert.equal([...theirs.metadata.keys()].sort(), tensors.map(({ name }) => name).sort());
    for (const { name, dtype, shape, data } of tensors) {
      const { byteOffset, byteLength } = ours.entry(name);
      assert.equal(theirs.metadata.get(name), {
        dtype: dtype.toUpperCase(),
        shape,
        data_offsets: [byteOffset, byteOffset + byteLength],
      });
      const numbers = typeof data === "function" ? await data() : data;
      if (dtype !== "bf16" && dtype !== "f16") assert.ok(bytesOf(numbers).equals(theirs.getTensor(name)), name);
    }
    // 1, 2, −3 in bf16 and 0.5, 65504 in f16, little-endian.
    assert.equal([...theirs.getTensor("bf16")], [0x80, 0x3f, 0x00, 0x40, 0x40, 0xc0]);
    assert.equal([...theirs.getTensor('f16 "quoted"')], [0x00, 0x38, 0xff, 0x7b]);
    await ours.close();
  });

  test("a run's state: weights and both moments", async () => {
    const arena = new ParameterArena(
      new CpuBackend(),
      new Map([
        ["a.weight", { shape: [3, 5], forwardCopy: false }],
        ["b", { shape: [4], forwardCopy: false }],
      ]),
      { trainable: true },
    );
    arena.load(
      "a.weight",
      Float32Array.from({ length: 15 }, (_, i) => Math.sin(i)),
    );
    arena.load("b", Float32Array.of(1, -2, 3, -4));
    const folder = join(scratch, "state");
    await saveState(folder, arena, { step: 3, own: {} }, 1);
    const path = join(folder, readdirSync(folder)[0], "state.safetensors");
    const theirs = opened(path);
    const state = await arena.readState();
    assert.equal([...theirs.metadata.keys()].sort(), [...state.keys()].sort());
    assert.ok(["values.b", "moment1.b", "moment2.a.weight"].every((name) => theirs.metadata.has(name)));
    for (const [name, { shape, data }] of state) {
      assert.equal(theirs.metadata.get(name)?.shape, shape);
      assert.ok(bytesOf(data).equals(theirs.getTensor(name)), name);
    }
    assert.is((await loadState(folder, arena))?.state.step, 3);
    arena.free();
  });
});
