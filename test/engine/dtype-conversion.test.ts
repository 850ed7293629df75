import { readFileSync } from "node:fs";
import * as assert from "uvu/assert";
import {
  bf16ToF32,
  decode,
  encode,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  type StoredDtype,
  storedBytes,
} from "../../engine/dtype-conversion.ts";
import { describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

type Value = number | string | boolean;
interface Corpus {
  files: Record<string, { tensors?: Record<string, { dtype: string; hex: string; values?: Value[] }> }>;
}

const everyPattern = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
const patternBytes = new Uint8Array(everyPattern.buffer);
const isStored = (dtype: string): dtype is StoredDtype => Object.hasOwn(storedBytes, dtype);

// The next f32 up or down from a finite, non-zero x: its bits, as a whole number, plus or minus one.
function neighbour(x: number, away: 1 | -1): number {
  const words = new Uint32Array(new Float32Array([x]).buffer);
  words[0] += away;
  return new Float32Array(words.buffer)[0];
}

// The two 16-bit formats by their definition: ±(1 + m·2^-bits)·2^(e − bias), subnormal ±m·2^(1 − bias − bits).
const formats = [
  { name: "f16", bias: 15, bits: 10, widen: f16ToF32, narrow: f32ToF16 },
  { name: "bf16", bias: 127, bits: 7, widen: bf16ToF32, narrow: f32ToBf16 },
] as const;

describe("engine/dtype-conversion", (test) => {
  for (const { name, bias, bits, widen, narrow } of formats) {
    const largestExponent = (1 << (15 - bits)) - 1;
    const infinity = largestExponent << bits;

    test(`${name}: each of 65,536 patterns is the number that the format defines`, () => {
      const array = decode(name, patternBytes);
      for (let pattern = 0; pattern < 1 << 16; pattern++) {
        const sign = pattern >>> 15 === 1 ? -1 : 1;
        const exponent = (pattern >>> bits) & largestExponent;
        const mantissa = pattern & ((1 << bits) - 1);
        const expected =
          exponent === largestExponent
            ? mantissa === 0
              ? sign * Number.POSITIVE_INFINITY
              : Number.NaN
            : exponent === 0
              ? sign * mantissa * 2 ** (1 - bias - bits)
              : sign * (1 + mantissa * 2 ** -bits) * 2 ** (exponent - bias);
        assert.ok(Object.is(widen(pattern), expected), `${pattern}: expected ${expected}, got ${widen(pattern)}`);
        assert.ok(Object.is(array[pattern], expected), `${pattern}: expected ${expected}, got ${array[pattern]}`);
      }
    });

    test(`${name}: every pattern survives decode and encode, payloads of NaN included`, () => {
      assert.equal(encode(name, decode(name, patternBytes)), patternBytes);
    });

    test(`${name}: between neighbours the nearer wins, midway the even one`, () => {
      for (const sign of [0, 0x8000]) {
        for (let low = 0; low < infinity; low++) {
          // Above the largest finite number, infinity stands where the next power of two would be.
          const next = low + 1 === infinity ? 2 ** (largestExponent - bias) : Math.abs(widen(low + 1));
          const middle = ((Math.abs(widen(low)) + next) / 2) * (sign === 0 ? 1 : -1);
          // bf16 subnormals: the middle of two is still an f32, since f32 has 16 more bits.
          const expected = [
            [middle, (low & 1) === 0 ? low : low + 1],
            [neighbour(middle, -1), low],
            [neighbour(middle, 1), low + 1],
          ];
          for (const [x, pattern] of expected)
            if (narrow(x) !== (sign | pattern))
              assert.unreachable(`${x}: expected pattern ${sign | pattern}, got ${narrow(x)}`);
        }
      }
    });

    test(`${name}: zeros keep their sign, what is too small becomes one, what is too large infinity`, () => {
      assert.is(narrow(0), 0);
      assert.is(narrow(-0), 0x8000);
      assert.is(narrow(-(2 ** -149)), 0x8000);
      assert.is(narrow(Number.POSITIVE_INFINITY), infinity);
      assert.is(narrow(Number.NEGATIVE_INFINITY), 0x8000 | infinity);
      assert.is(narrow(3.4028234663852886e38), infinity);
      assert.ok(Number.isNaN(widen(narrow(Number.NaN))));
    });

    test(`${name}: a NaN whose payload is cut off stays a NaN`, () => {
      const lowest = new Float32Array(new Uint32Array([0x7f800001, 0xff800001]).buffer);
      const patterns = new Uint16Array(encode(name, lowest).buffer);
      assert.ok((patterns[0] & 0x7fff) > infinity);
      assert.ok(patterns[1] > (0x8000 | infinity));
    });
  }

  test("PyTorch's values for every dtype", () => {
    const { files } = readFixture<Corpus>("safetensors-corpus/expected.json");
    const seen = new Set<string>();
    for (const [file, { tensors }] of Object.entries(files))
      for (const [name, { dtype, hex, values }] of Object.entries(tensors ?? {})) {
        const stored = dtype.toLowerCase();
        if (values === undefined || !isStored(stored)) continue;
        seen.add(stored);
        const decoded = decode(stored, new Uint8Array(Buffer.from(hex, "hex")));
        assert.is(decoded.length, values.length);
        values.forEach((value, i) => {
          const expected = typeof value === "string" && !/^-?\d/.test(value) ? Number(value) : value;
          const actual = typeof decoded[i] === "bigint" ? String(decoded[i]) : decoded[i];
          assert.ok(
            Object.is(actual, Number.isNaN(expected) ? Number.NaN : stored === "bool" ? Number(expected) : expected),
            `${file} ${name}[${i}]: expected ${value}, got ${actual}`,
          );
        });
      }
    for (const dtype of ["f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool"])
      assert.ok(seen.has(dtype), `${dtype} is in the corpus`);
  });

  test("rounding the tiny checkpoint gives the f16 file that PyTorch wrote from the same weights", () => {
    // Both files hold the same tensors in the same order, so that the data parts correspond element by element.
    const dataOf = (path: string) => {
      const file = readFileSync(fixturePath(path));
      return new Uint8Array(file.subarray(8 + Number(file.readBigUInt64LE(0))));
    };
    const f32 = decode("f32", dataOf("qwen2-tiny/model.safetensors"));
    assert.equal(encode("f16", f32), dataOf("qwen2-tiny-bare-f16/model.safetensors"));
  });

  test("bytes at an odd offset are read as they are", () => {
    const bytes = new Uint8Array(9);
    bytes.set(new Uint8Array(new Float32Array([1.5, -2]).buffer), 1);
    assert.equal([...decode("f32", bytes.subarray(1))], [1.5, -2]);
  });

  test("refuses half an element", () =>
    throwsMessage(() => decode("f32", new Uint8Array(7)), "multiple of 4", "got 7"));
});
