import type { Backend } from "../../../../engine/backends/backend.ts";
import { defineKernel, eraseKernel } from "../../../../engine/kernel.ts";
import { normalsKernel, writeNormals } from "../../../../engine/ops/perturbation/normals.ts";
import {
  directionNormals,
  exponential,
  gumbel,
  normals,
  philox,
  philoxKey,
  type WordPair,
  wordsOf,
} from "../../../../engine/random.ts";
import { run } from "../../../../engine/run.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, sizeOf } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, assertKnown, describe, readFixture } from "../../../support.ts";
import { sameBits } from "../../check-op.ts";
import type { PhiloxFixture, RandomFixture } from "../../random-fixtures.ts";

/** Of any normal or Gumbel, from float64. */
const promised = { absolute: 4e-6 };

type Quad = [number, number, number, number];
const quadsIn = (words: ArrayLike<number>): Quad[] =>
  Array.from({ length: words.length / 4 }, (_, i) => [
    words[4 * i],
    words[4 * i + 1],
    words[4 * i + 2],
    words[4 * i + 3],
  ]);

const philoxWordsKernel = defineKernel({
  name: "philoxWords",
  axes: { rows: "map" },
  bindings: {
    counters: { access: "read", axis: "rows" },
    keys: { access: "read", axis: "rows" },
    words: { access: "write", axis: "rows" },
  },
  cpu: ({ counters, keys, words }, { rows }) => {
    quadsIn(counters.subarray(0, 4 * rows)).forEach((counter, i) => {
      words.set(philox(counter, [keys[2 * i], keys[2 * i + 1]]), 4 * i);
    });
  },
  wgsl: new URL("./philox-words.wgsl", import.meta.url),
  uses: ["philox"],
  workgroups: ({ rows }) => [Math.ceil(rows / 64)],
});

const randomValuesKernel = defineKernel({
  name: "randomValues",
  axes: { rows: "map" },
  bindings: {
    words: { access: "read", axis: "rows" },
    exponentials: { access: "write", axis: "rows" },
    gumbels: { access: "write", axis: "rows" },
    fourNormals: { access: "write", axis: "rows" },
  },
  cpu: ({ words, exponentials, gumbels, fourNormals }, { rows }) => {
    quadsIn(words.subarray(0, 4 * rows)).forEach((four, i) => {
      exponentials.set(four.map(exponential), 4 * i);
      gumbels.set(four.map(gumbel), 4 * i);
      fourNormals.set(normals(four), 4 * i);
    });
  },
  wgsl: new URL("./words-to-values.wgsl", import.meta.url),
  uses: ["flat-workgroup", "random-values"],
  workgroups: ({ rows }) => [Math.ceil(rows / 64)],
});

async function valuesOf(backend: Backend, words: Uint32Array): Promise<ArrayLike<number>[]> {
  return scopeAsync(async () => {
    const shape = [words.length / 4, 4];
    const given = fromArray(backend, words, shape, "u32");
    const [exponentials, gumbels, fourNormals] = [empty(backend, shape), empty(backend, shape), empty(backend, shape)];
    run(randomValuesKernel, { words: given, exponentials, gumbels, fourNormals }, {});
    return readTensors([exponentials, gumbels, fourNormals]);
  });
}

describe("engine/ops/perturbation/normals", (test) => {
  test("Philox 4×32-10 word for word", async () => {
    const { known, further } = readFixture<PhiloxFixture>("philox.json");
    const all = [...known, ...further];
    const rows = all.length;
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const counters = fromArray(
          backend,
          all.flatMap((one) => [...one.counter]),
          [rows, 4],
          "u32",
        );
        const keys = fromArray(
          backend,
          all.flatMap((one) => [...one.key]),
          [rows, 2],
          "u32",
        );
        const words = empty(backend, [rows, 4], "u32");
        run(philoxWordsKernel, { counters, keys, words }, {});
        const expected = all.flatMap((one) => [...one.output]);
        assertKnown("philox.json", "words", name, await words.read(), expected, {});
      });
  });

  test("known values of words", async () => {
    const { words, quads } = readFixture<RandomFixture>("random.json");
    for (const { name, backend } of await testBackends()) {
      const given = new Uint32Array(4 * words.length);
      words.forEach(({ word }, i) => {
        given.fill(word, 4 * i, 4 * i + 4);
      });
      const [exponentials, gumbels] = await valuesOf(backend, given);
      const each = (values: ArrayLike<number>): number[] => words.map((_, i) => values[4 * i]);
      const [knownExponentials, knownGumbels] = [words.map((one) => one.exponential), words.map((one) => one.gumbel)];
      assertKnown("random.json", "exponentials", name, each(exponentials), knownExponentials, promised);
      assertKnown("random.json", "gumbels", name, each(gumbels), knownGumbels, promised);
      const [, , fourNormals] = await valuesOf(backend, Uint32Array.from(quads.flatMap((one) => [...one.words])));
      const knownNormals = quads.flatMap((one) => one.normals);
      assertKnown("random.json", "normals", name, fourNormals, knownNormals, promised);
    }
  });

  test("a million words, and those where a formula begins or ends, against float64", async () => {
    const count = 2 ** 18;
    const words = new Uint32Array(4 * count);
    const edges = edgeWords();
    for (let i = 0; i < count; i++) words.set(philox([i, 0, 0, 0], [1, 2]), 4 * i);
    // Each edge as a radius beside many angles, and as an angle beside the largest radius.
    edges.forEach((edge, i) => {
      words.set([edge, words[4 * i + 1], 0, edge], 4 * i);
    });
    const [exponentials, gumbels, fourNormals] = await valuesOf(reference, words);
    for (const { name, backend } of (await testBackends()).filter((one) => one.backend.kind === "webgpu")) {
      const [e, g, n] = await valuesOf(backend, words);
      assertClose(`${name}: exponentials`, e, exponentials, promised);
      // So that a Gumbel can be within 4e-6: E must be right in relation to itself, wherever it is small.
      assertClose(`${name}: exponentials`, e, exponentials, { relative: 1e-6 });
      assertClose(`${name}: gumbels`, g, gumbels, promised);
      assertClose(`${name}: normals`, n, fourNormals, promised);
    }
  });

  test("directions, from any element on: past 2³⁴, inside a counter's four, across a cut", async () => {
    const { directions } = readFixture<RandomFixture>("random.json");
    for (const { name, backend } of await testBackends())
      for (const { label, key, nameWords, firstElement, normals: expected } of directions)
        for (const rowSize of [1, 2, 4, 8, 24]) {
          if (firstElement >= rowSize * 2 ** 32) continue;
          const values = await cellFrom(backend, { key, nameWords, firstElement, count: expected.length, rowSize });
          const context = `${label} from ${firstElement} in rows of ${rowSize}`;
          assertKnown("random.json", "directions", name, values, expected, promised, context);
        }
  });

  test("each word of a 64-bit element counts, and the carry between them", async () => {
    const key = philoxKey("direction|3|0|eta");
    const nameWords = wordsOf("model.embed_tokens.weight");
    for (const { name, backend } of await testBackends())
      for (const firstElement of [
        2 ** 32 - 6,
        2 ** 32 + 5,
        3 * 2 ** 32 + 20,
        2 ** 34 - 9,
        5 * 2 ** 34 - 2,
        7 * 2 ** 33,
      ])
        for (const rowSize of [48, 1001]) {
          const values = await cellFrom(backend, { key, nameWords, firstElement, count: 50, rowSize });
          const expected = directionNormals(key, nameWords, 50, firstElement);
          assertClose(`${name}: from ${firstElement} in rows of ${rowSize}`, values, expected, promised);
        }
  });

  test("a tensor's normals do not depend on how it is cut, and repeat bit for bit", async () => {
    const key = philoxKey("direction|3|1|eta");
    const name = wordsOf("model.layers.0.mlp.up_proj.weight");
    for (const shape of [[1], [5], [37, 3], [301, 61], [4096, 3], [9, 1024], [0, 8]]) {
      const size = sizeOf(shape);
      const expected = directionNormals(key, name, size);
      let first: ArrayLike<number> | null = null;
      for (const { name: where, backend } of await testBackends()) {
        const draw = () =>
          scopeAsync(async () => {
            const y = empty(backend, shape);
            writeNormals(y, key, name);
            return y.read();
          });
        const values = await draw();
        assertClose(`${where}: [${shape}]`, values, expected, promised);
        sameBits(`${where}: [${shape}] twice`, await draw(), values);
        if (backend.kind === "cpu") continue;
        first ??= values;
        sameBits(`${where}: [${shape}] as in one piece`, values, Float32Array.from(first));
      }
    }
  });

  test("mean, variance, skewness and kurtosis of a direction are a normal's", async () => {
    const { backend } = (await testBackends())[1];
    const size = 2 ** 18;
    const values = await scopeAsync(async () => {
      const y = empty(backend, [size / 64, 64]);
      writeNormals(y, philoxKey("direction|1|0|delta"), wordsOf("moments"));
      return y.read();
    });
    const moment = (power: number): number =>
      Float64Array.from(values, (z) => z ** power).reduce((a, b) => a + b) / size;
    // Standard errors of the first four moments: √1, √2, √15, √96 over √size; five of them.
    const allowed = (variance: number): number => 5 * Math.sqrt(variance / size);
    [
      [0, 1],
      [1, 2],
      [0, 15],
      [3, 96],
    ].forEach(([expected, variance], i) => {
      assertClose(`moment ${i + 1}`, [moment(i + 1)], [expected], { absolute: allowed(variance) });
    });
  });
});

/**
 * Normals from an element on, as a cell of a tensor too large to be had: rows of `rowSize`, the first of them the row with
 * that element.
 */
async function cellFrom(
  backend: Backend,
  of: { key: WordPair; nameWords: WordPair; firstElement: number; count: number; rowSize: number },
): Promise<ArrayLike<number>> {
  const { key, nameWords, firstElement, count, rowSize } = of;
  const rowsStart = Math.floor(firstElement / rowSize);
  const skipped = firstElement - rowsStart * rowSize;
  const rows = Math.ceil((skipped + count) / rowSize);
  return scopeAsync(async () => {
    const y = empty(backend, [rows, rowSize]);
    const [{ buffer, base }] = y.segments;
    backend.dispatch({
      kernel: eraseKernel(normalsKernel),
      buffers: [{ buffer, base, length: y.size, dtype: y.dtype }],
      params: {
        ...{ rows, rowsStart, rowsTotal: rowsStart + rows, rowSize, yBase: base },
        ...{ key0: key[0], key1: key[1], name0: nameWords[0], name1: nameWords[1] },
      },
      constants: {},
    });
    return (await y.read()).subarray(skipped, skipped + count);
  });
}

/** Both ends of the words, the middle, the powers of two, eighths of a turn, and where 1 − t passes √½; with neighbours. */
function edgeWords(): number[] {
  const near: number[] = [];
  for (let bit = 0; bit < 32; bit++) near.push(2 ** bit, 2 ** 32 - 2 ** bit);
  for (let eighth = 0; eighth <= 8; eighth++) near.push(eighth * 2 ** 29);
  near.push(Math.round(2 ** 32 * Math.SQRT1_2), Math.round(2 ** 31 * Math.SQRT1_2), Math.round(2 ** 32 / Math.E));
  const edges = near.flatMap((word) => [-2, -1, 0, 1, 2].map((step) => word + step));
  return edges.filter((word) => word >= 0 && word < 2 ** 32);
}
