// Penalty, top-k and top-p against transformers' definitions, written out in float64 (sorted, summed up from the least
// likely), and against cases by hand.
import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { sampleTokens } from "../../../../engine/ops/sampling/sample-tokens.ts";
import { markSeen, noWarping, seenWords, type Warping, warpLogits } from "../../../../engine/ops/sampling/warp.ts";
import type { Parameter } from "../../../../engine/parameters.ts";
import { philoxKey, tokenCounterRow, tokenKey } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

const { NEGATIVE_INFINITY: gone, POSITIVE_INFINITY, NaN: notANumber } = Number;

async function all(): Promise<{ name: string; backend: Backend }[]> {
  return [{ name: "plain f64", backend: reference }, ...(await testBackends())];
}

/** Warped rows; what is beyond the columns is NaN, which nothing may read as a logit. */
async function warp(
  backend: Backend,
  rows: readonly ArrayLike<number>[],
  temperature: number,
  warping: Partial<Warping>,
  seenIds: readonly (readonly number[])[] | null = null,
): Promise<NumberArray[]> {
  const V = rows[0].length;
  const width = 8 * Math.ceil(V / 8);
  return scopeAsync(async () => {
    const padded = rows.flatMap((row) => [...Array.from(row), ...new Array<number>(width - V).fill(notANumber)]);
    const logits = fromArray(backend, padded, [rows.length, width], backend === reference ? "f64" : "f32");
    const words = new Uint32Array(rows.length * seenWords(V));
    seenIds?.forEach((ids, r) => {
      markSeen(words.subarray(r * seenWords(V), (r + 1) * seenWords(V)), ids);
    });
    const seen = seenIds && fromArray(backend, words, [rows.length, seenWords(V)], "u32");
    const [warped] = await readTensors([warpLogits(logits, V, temperature, seen, { ...noWarping, ...warping })]);
    return rows.map((_, r) => warped.slice(r * width, r * width + V));
  });
}

/** transformers' RepetitionPenalty, Temperature, TopK and TopP processors, one after the other. `isClear` where no sum is near p. */
function stated(
  logits: readonly number[],
  temperature: number,
  { topK, topP, repetitionPenalty }: Warping,
  seen: readonly number[],
): { scores: number[]; isClear: boolean } {
  const scores = [...logits];
  for (const id of new Set(seen)) scores[id] *= scores[id] < 0 ? repetitionPenalty : 1 / repetitionPenalty;
  for (let v = 0; v < scores.length; v++) scores[v] /= temperature;
  if (topK > 0) {
    const kth = [...scores].sort((a, b) => b - a)[Math.min(topK, scores.length) - 1];
    for (let v = 0; v < scores.length; v++) if (scores[v] < kth) scores[v] = gone;
  }
  let isClear = true;
  if (topP < 1) {
    const ascending = scores.map((_, v) => v).sort((a, b) => scores[a] - scores[b]);
    const largest = scores[ascending[ascending.length - 1]];
    const total = scores.reduce((sum, z) => sum + Math.exp(z - largest), 0);
    let cumulative = 0;
    for (const v of ascending.slice(0, -1)) {
      cumulative += Math.exp(scores[v] - largest) / total;
      if (Math.abs(cumulative - (1 - topP)) < 1e-5) isClear = false;
      if (cumulative <= 1 - topP) scores[v] = gone;
    }
  }
  return { scores, isClear };
}

const kept = (row: NumberArray): number[] => [...row.keys()].filter((v) => row[v] !== gone);

describe("engine/ops/sampling/warp", (test) => {
  test("all that transformers does, in its order, against plain float64", async () => {
    let clear = 0;
    let cases = 0;
    for (const [R, V] of [
      [3, 1],
      [4, 7],
      [2, 256],
      [2, 257],
      [5, 371],
      [2, 3001],
    ])
      for (const [topK, topP, repetitionPenalty, temperature] of [
        [0, 1, 1.3, 0.8],
        [5, 1, 1, 1],
        [0, 0.9, 1, 1],
        [0, 0.3, 1, 2],
        [20, 0.8, 1.1, 0.7],
        [50, 0.95, 0.8, 1.5],
      ]) {
        const warping = { topK, topP, repetitionPenalty };
        const values = Float32Array.from(normals(V + topK, R * V, 3));
        const rows = Array.from({ length: R }, (_, r) => [...values.subarray(r * V, (r + 1) * V)]);
        // Ids repeat, and so does the last one of a word of 32.
        const seen = rows.map((_, r) => Array.from({ length: 9 + r }, (_, i) => (i * i * 31 + 31 + r) % V));
        const expected = rows.map((row, r) => stated(row, temperature, warping, seen[r]));
        for (const { name, backend } of await all()) {
          const found = await warp(backend, rows, temperature, warping, seen);
          found.forEach((row, r) => {
            cases++;
            if (!expected[r].isClear) return;
            clear++;
            const what = `${name}: ${JSON.stringify(warping)}, row ${r} of [${R}, ${V}]`;
            const { scores } = expected[r];
            assert.deepEqual(
              kept(row),
              [...scores.keys()].filter((v) => scores[v] !== gone),
              what,
            );
            // A product and a division, 2.5 ULP each in WGSL.
            assertClose(
              what,
              kept(row).map((v) => row[v]),
              scores.filter((z) => z !== gone),
              { relative: 2 ** -20 },
            );
          });
          const [alone] = await warp(backend, rows.slice(-1), temperature, warping, seen.slice(-1));
          sameBits(`${name}: the last row alone`, alone, found[R - 1]);
        }
      }
    assert.ok(clear > 0.9 * cases, `${clear} of ${cases} cases without a near tie`);
  });

  test("top-k by hand: ties with the k-th stay, and more than there are is all", async () => {
    const row = [1, 3, 2, 3, -0, 0, -5];
    for (const { name, backend } of await all())
      for (const [topK, ids] of [
        [1, [1, 3]],
        [2, [1, 3]],
        [3, [1, 2, 3]],
        [4, [0, 1, 2, 3]],
        [5, [0, 1, 2, 3, 4, 5]],
        [6, [0, 1, 2, 3, 4, 5]],
        [7, [0, 1, 2, 3, 4, 5, 6]],
        [100, [0, 1, 2, 3, 4, 5, 6]],
      ] as const)
        assert.deepEqual(kept((await warp(backend, [row], 1, { topK }))[0]), ids, `${name}: top ${topK}`);
  });

  test("top-p by hand: the one that passes p stays, equal ones go together, the largest always stays", async () => {
    const probabilities = [0.1, 0.4, 0.05, 0.2, 0.05, 0.2];
    const row = probabilities.map(Math.log);
    for (const { name, backend } of await all())
      for (const [topP, ids] of [
        [1e-6, [1]],
        [0.39, [1]],
        [0.41, [1, 3, 5]],
        [0.61, [1, 3, 5]],
        [0.81, [0, 1, 3, 5]],
        [0.91, [0, 1, 2, 3, 4, 5]],
        [1, [0, 1, 2, 3, 4, 5]],
      ] as const)
        assert.deepEqual(kept((await warp(backend, [row], 1, { topP }))[0]), ids, `${name}: top-p ${topP}`);
  });

  test("top-p sums what top-k left", async () => {
    // Of 0.4, 0.3, 0.2, 0.1 the best two hold 0.57 and 0.43: the first alone passes 0.5, of all four it does not.
    const row = [0.1, 0.3, 0.4, 0.2].map(Math.log);
    for (const { name, backend } of await all()) {
      assert.deepEqual(kept((await warp(backend, [row], 1, { topP: 0.5 }))[0]), [1, 2], name);
      assert.deepEqual(kept((await warp(backend, [row], 1, { topP: 0.5, topK: 2 }))[0]), [2], name);
    }
  });

  test("the penalty by hand: once an id, towards less likely on both sides of zero; a greedy row is not divided or cut", async () => {
    const row = [2, -2, 4, 0, -1];
    for (const { name, backend } of await all()) {
      const penalised = { repetitionPenalty: 2 };
      assert.deepEqual([...(await warp(backend, [row], 1, penalised, [[0, 1, 0, 1, 3]]))[0]], [1, -4, 4, 0, -1], name);
      const greedy = { ...penalised, topK: 1, topP: 0.1 };
      assert.deepEqual([...(await warp(backend, [row], 0, greedy, [[2]]))[0]], [2, -2, 2, 0, -1], name);
      assert.deepEqual([...(await warp(backend, [row], 0.5, penalised, [[]]))[0]], [4, -4, 8, 0, -2], name);
    }
  });

  test("shut-out ids stay out, a row that is no numbers stays none", async () => {
    const rows = [
      [gone, 1, gone, 2, 3],
      [gone, gone, gone, gone, gone],
      [0, notANumber, 1, 2, 3],
      [0, 1, POSITIVE_INFINITY, 2, 3],
    ];
    for (const { name, backend } of await all())
      for (const warping of [{ topK: 2 }, { topP: 0.9 }]) {
        const found = await warp(backend, rows, 1, warping);
        assert.deepEqual(kept(found[0]), [3, 4], name);
        assert.deepEqual(kept(found[1]), [], name);
        assert.ok(Number.isNaN(found[2][1]) && found[3][2] === POSITIVE_INFINITY, name);
      }
  });

  test("drawing: off is bit for bit as without; a cut keeps the noise; scores are those before warping", async () => {
    const [R, C, V] = [40, 6, 371];
    const key = tokenKey(5, "generate", 0);
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const hidden = fromArray(backend, normals(1, R * C), [R, C]);
        const tensor = fromArray(backend, normals(2, V * C), [V, C]);
        const weight: Parameter = { kind: "tensor", tensor, panels: null };
        const places = Array.from({ length: R }, (_, r) =>
          tokenCounterRow({ position: r, turn: 0, rollout: 3, prompt: 9 }),
        );
        const counters = fromArray(backend, places.flat(), [R, 4], "u32");
        const words = new Uint32Array(R * seenWords(V));
        for (let r = 0; r < R; r++) markSeen(words.subarray(r * seenWords(V), (r + 1) * seenWords(V)), [r, 2 * r]);
        const seen = fromArray(backend, words, [R, seenWords(V)], "u32");
        const draw = async (temperature: number, warping?: Partial<Warping>): Promise<NumberArray[]> => {
          const full = warping && { ...noWarping, ...warping, seen: warping.repetitionPenalty ? seen : null };
          const found = sampleTokens(hidden, weight, null, { counters, key, temperature, warping: full });
          return readTensors([found.ids, found.logProbs, found.entropy]);
        };
        for (const temperature of [0, 0.7, 1]) {
          const plain = await draw(temperature);
          for (const off of [{}, { topK: V }]) {
            const found = await draw(temperature, off);
            found.forEach((values, i) => {
              sameBits(`${name}: ${["ids", "logProbs", "entropy"][i]} with all off`, values, plain[i]);
            });
          }
          const cut = await draw(temperature, { topK: 9 });
          const penalised = await draw(temperature, { repetitionPenalty: 1.5 });
          sameBits(`${name}: entropy before the cut`, cut[2], plain[2]);
          sameBits(`${name}: entropy before the penalty`, penalised[2], plain[2]);
          let same = 0;
          for (let r = 0; r < R; r++)
            for (const found of [cut, penalised])
              if (found[0][r] === plain[0][r]) {
                same++;
                assert.equal(found[1][r], plain[1][r], `${name}: row ${r}: its log-probability`);
              }
          assert.ok(same > R / 4, `${name}: ${same} draws as before`);
          if (temperature > 0) assert.ok(same < 2 * R, `${name}: something should have changed`);
        }
        const likeliest = await draw(0);
        sameBits(`${name}: the best one alone is the greedy choice`, (await draw(1, { topK: 1 }))[0], likeliest[0]);
      });
  });

  test("refuses what does not go together", async () => {
    const { backend } = (await testBackends())[0];
    await throwsMessage(() => warp(backend, [[1, 2]], 1, { repetitionPenalty: 2 }), "warpLogits: seen", "got null");
    await scopeAsync(async () => {
      const hidden = fromArray(backend, [1, 2], [1, 2]);
      const weight: Parameter = { kind: "tensor", tensor: fromArray(backend, [1, 2, 3, 4], [2, 2]), panels: null };
      const counters = fromArray(backend, [0, 0, 0, 0], [1, 4], "u32");
      for (const [warping, what] of [
        [{ topK: -1 }, "topK"],
        [{ topP: 0 }, "topP"],
        [{ topP: 1.1 }, "topP"],
        [{ repetitionPenalty: 0 }, "repetitionPenalty"],
        [{ repetitionPenalty: 1e-39 }, "repetitionPenalty"],
      ] as const) {
        const full = { ...noWarping, ...warping, seen: null };
        const draw = () =>
          sampleTokens(hidden, weight, null, { counters, key: philoxKey("x"), temperature: 1, warping: full });
        await throwsMessage(draw, `sampleTokens: ${what}: expected`);
      }
    });
  });
});
