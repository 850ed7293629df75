import { deepStrictEqual } from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { decode, storedDtypes } from "../../engine/dtype-conversion.ts";
import { CheckpointError } from "../../engine/host/errors.ts";
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "../../model/safetensors.ts";
import { describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

interface Verdict {
  accept: boolean;
  metadata?: Record<string, string> | null;
  tensors?: Record<string, { dtype: string; shape: number[]; hex: string }>;
  strictMayReject?: true;
}

const corpus = readFixture<{ files: Record<string, Verdict> }>("safetensors-corpus/expected.json").files;
const readable = new Set<string>(storedDtypes.map((dtype) => dtype.toUpperCase()));
const folder = mkdtempSync(join(tmpdir(), "foothold-safetensors-"));

async function withFile<T>(path: string, body: (file: SafetensorsFile) => T | Promise<T>): Promise<T> {
  const file = await openSafetensors(path);
  try {
    return await body(file);
  } finally {
    await file.close();
  }
}

/** All tensors of a file, in its order, ready to be written again. */
const tensorsOf = (path: string): Promise<TensorToWrite[]> =>
  withFile(path, (file) =>
    Promise.all(
      [...file.tensors.values()].map(async ({ name, dtype, shape }) => ({
        name,
        dtype,
        shape,
        data: await file.readTensor(name),
      })),
    ),
  );

// uvu holds NaN unequal to itself; its bytes are equal.
const bytesOf = (values: ArrayBufferView) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

const headerOf = (path: string): string => {
  const bytes = readFileSync(path);
  return bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0)));
};

describe("model/safetensors", (test) => {
  test.after(() => rmSync(folder, { recursive: true }));

  for (const [name, verdict] of Object.entries(corpus)) {
    const path = fixturePath(`safetensors-corpus/${name}`);
    const declined = Object.values(verdict.tensors ?? {}).find(({ dtype }) => !readable.has(dtype));
    const mayDecline = verdict.strictMayReject === true;
    if (!verdict.accept || declined !== undefined)
      test(`refuses ${name}`, async () => {
        const error = await throwsMessage(() => openSafetensors(path), path, ...(declined ? [declined.dtype] : []));
        assert.instance(error, CheckpointError);
      });
    else
      test(`reads ${name}`, async () => {
        try {
          await withFile(path, async (file) => {
            assert.equal(Object.fromEntries(file.metadata), verdict.metadata ?? {});
            assert.equal([...file.tensors.keys()].sort(), Object.keys(verdict.tensors ?? {}).sort());
            for (const [tensor, { dtype, shape, hex }] of Object.entries(verdict.tensors ?? {})) {
              const entry = file.entry(tensor);
              assert.is(entry.dtype.toUpperCase(), dtype);
              assert.equal(entry.shape, shape);
              // What PyTorch read is compared by dtype in engine/dtype-conversion; here the bytes must be the right ones.
              const expected = decode(entry.dtype, new Uint8Array(Buffer.from(hex, "hex")));
              assert.equal(bytesOf(await file.readTensor(tensor)), bytesOf(expected));
            }
          });
        } catch (error) {
          if (!mayDecline || !(error instanceof CheckpointError)) throw error;
        }
      });
  }

  test("a refusal names the tensor and the numbers", async () => {
    const refuses = (file: string, ...texts: string[]) =>
      throwsMessage(() => openSafetensors(fixturePath(`safetensors-corpus/${file}.safetensors`)), ...texts);
    await refuses("size-too-small", '"x"', "expected 12 bytes for f32 [3]", "[0,8]", "give 8");
    await refuses("hole", '"b"', "at byte 4", "got 5", "a hole");
    await refuses("overlap", '"b"', "at byte 4", "got 2", "an overlap");
    await refuses("shape-beyond-2-to-53", '"x"', "shape", "9007199254740994");
    await refuses("duplicate-metadata", '"__metadata__"', "twice");
    await refuses("git-lfs-pointer", "git lfs pull");
    await refuses("html", "web page");
    await refuses("pickle", "pickle");
    await refuses("gzip", "gzip");
    await throwsMessage(() => openSafetensors(join(folder, "absent")), "absent", "ENOENT");
  });

  test("any byte of a header may change: the file is read or refused, nothing else happens", async () => {
    const sound = readFileSync(fixturePath("safetensors-corpus/every-dtype.safetensors"));
    const header = Number(sound.readBigUInt64LE(0));
    const path = join(folder, "changed.safetensors");
    let refused = 0;
    for (let at = 0; at < 8 + header; at++) {
      const changed = Buffer.from(sound);
      changed[at] ^= 1 << (at % 8);
      writeFileSync(path, changed);
      const error = await withFile(path, () => null).catch((thrown: unknown) => thrown);
      if (error !== null) assert.instance(error, CheckpointError);
      if (error !== null) refused++;
    }
    assert.ok(refused > header / 2, `${refused} of ${header} refused`);
  });

  test("piece by piece gives what the whole gives", () => {
    const folder = fixturePath("qwen2-tiny-bf16-sharded");
    const [shard] = readdirSync(folder).filter((name) => name.endsWith(".safetensors"));
    return withFile(join(folder, shard), async (file) => {
      for (const name of file.tensors.keys()) {
        const whole = await file.readFloat32(name);
        const pieced = new Float32Array(whole.length);
        let pieces = 0;
        for await (const { start, data } of file.readChunks(name, 7)) {
          assert.instance(data, Float32Array);
          assert.ok(data.length <= 7);
          for (let i = 0; i < data.length; i++) pieced[start + i] = Number(data[i]);
          pieces++;
        }
        assert.is(pieces, Math.ceil(whole.length / 7));
        deepStrictEqual(pieced, whole);
      }
    });
  });

  test("floats come as f32 and f64, whole numbers do not", () =>
    withFile(fixturePath("safetensors-corpus/every-dtype.safetensors"), async (file) => {
      const f64 = await file.readTensor("f64");
      deepStrictEqual(await file.readFloat64("f64"), f64);
      deepStrictEqual(await file.readFloat32("f64"), Float32Array.from(f64, Number));
      deepStrictEqual(await file.readFloat64("f16"), Float64Array.from(await file.readFloat32("f16")));
      await throwsMessage(() => file.readFloat32("i64"), '"i64"', "expected floats, got i64");
      await throwsMessage(() => file.readTensor("absent"), '"absent"', "no tensor of that name");
    }));

  test("reads beyond 4 GiB", async () => {
    const path = join(folder, "large.safetensors");
    const gap = 5 * 2 ** 30;
    const header = JSON.stringify({
      gap: { dtype: "U8", shape: [gap], data_offsets: [0, gap] },
      last: { dtype: "F32", shape: [2], data_offsets: [gap, gap + 8] },
    });
    const start = Buffer.alloc(8 + header.length);
    start.writeBigUInt64LE(BigInt(header.length));
    start.write(header, 8);
    const handle = await open(path, "w"); // the gap is a hole in the file and takes no room on disk
    await handle.write(start);
    await handle.write(new Uint8Array(new Float32Array([1.5, -3]).buffer), 0, 8, start.length + gap);
    await handle.close();
    await withFile(path, async (file) => deepStrictEqual(await file.readTensor("last"), new Float32Array([1.5, -3])));
    rmSync(path);
  });

  for (const source of [
    "safetensors-corpus/hugging-face",
    "qwen2-tiny/model",
    "qwen2-untied-odd/model",
    "qwen2-tiny-bare-f16/model",
  ])
    test(`writes ${source} byte for byte as the official library did`, async () => {
      const original = fixturePath(`${source}.safetensors`);
      const path = join(folder, "written.safetensors");
      await writeSafetensors(path, await tensorsOf(original));
      assert.is(headerOf(path), headerOf(original));
      assert.ok(readFileSync(path).equals(readFileSync(original)));
      assert.equal(
        readdirSync(folder).filter((name) => name.includes("partial")),
        [],
      );
    });

  test("what is written is read again, for every dtype; wider ones come first, so each is aligned", async () => {
    const tensors = await tensorsOf(fixturePath("safetensors-corpus/every-dtype.safetensors"));
    const path = join(folder, "every.safetensors");
    const lazy = tensors
      .reverse()
      .map(({ data, ...rest }) => ({ ...rest, data: async () => (typeof data === "function" ? data() : data) }));
    await writeSafetensors(path, lazy, { format: "pt", step: "10" });
    await withFile(path, async (file) => {
      assert.equal(
        [...file.metadata],
        [
          ["format", "pt"],
          ["step", "10"],
        ],
      );
      for (const { name, dtype, shape, data } of tensors) {
        const { byteOffset, byteLength, ...entry } = file.entry(name);
        assert.equal(entry, { name, dtype, shape });
        const elements = shape.reduce((product, extent) => product * extent, 1);
        assert.is(byteOffset % (byteLength / elements), 0, name);
        deepStrictEqual(await file.readTensor(name), data);
      }
    });
  });

  test("a failed write leaves the file that was there, and no other", async () => {
    const path = join(folder, "kept.safetensors");
    const one: TensorToWrite = { name: "x", dtype: "f32", shape: [2], data: new Float32Array([1, 2]) };
    await writeSafetensors(path, [one]);
    const before = readFileSync(path);
    const failing = { ...one, name: "y", data: () => Promise.reject(new Error("the adapter was lost")) };
    await throwsMessage(() => writeSafetensors(path, [one, failing]), "the adapter was lost");
    assert.ok(readFileSync(path).equals(before));
    assert.equal(
      readdirSync(folder).filter((name) => name.includes("kept")),
      ["kept.safetensors"],
    );
  });

  test("refuses to write what would not be read again", async () => {
    const path = join(folder, "refused.safetensors");
    const one: TensorToWrite = { name: "x", dtype: "f32", shape: [2], data: new Float32Array([1, 70000]) };
    await throwsMessage(() => writeSafetensors(path, [one, one]), '"x"');
    await throwsMessage(() => writeSafetensors(path, [{ ...one, name: "__metadata__" }]), "__metadata__");
    await throwsMessage(() => writeSafetensors(path, [{ ...one, shape: [3] }]), "3 elements", "of 2");
    await throwsMessage(() => writeSafetensors(path, [{ ...one, dtype: "f64" }]), "Float64Array", "Float32Array");
    await throwsMessage(() => writeSafetensors(path, [{ ...one, dtype: "f16" }]), '"x"', "70000", "largest f16");
    assert.equal(
      readdirSync(folder).filter((name) => name.includes("refused")),
      [],
    );
  });
});
