import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import type { NumberArray } from "../../../../engine/dtype.ts";
import { emptyScores, emptySums, scorePicked, sumLogits } from "../../../../engine/ops/head/logits.ts";
import { emptySamples, noSample, sampleChunk } from "../../../../engine/ops/sampling/sampling.ts";
import { gumbel, tokenCounterRow, tokenKey, tokenWord, type WordPair } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray, readTensors } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, assertKnown, describe, readFixture, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";
import type { RandomFixture } from "../../random-fixtures.ts";

interface SamplingFixture {
  rows: {
    /** null: −∞ */
    logits: (number | null)[];
    uniforms: number[];
    draws: { temperature: number; id: number; logProb: number; margin: number }[];
  }[];
}

const { NEGATIVE_INFINITY, POSITIVE_INFINITY, NaN: notANumber } = Number;
const key = tokenKey(2, "landscape", 0);
const placeOf = (row: number) => ({ position: 3 * row, turn: row % 2, rollout: row, prompt: 0x12345678 });

async function all(): Promise<{ name: string; backend: Backend }[]> {
  return [{ name: "plain f64", backend: reference }, ...(await testBackends())];
}

interface Draw {
  temperature: number;
  key?: WordPair;
  counters?: readonly number[];
  /** Widths of the chunks, multiples of 4 but for the last; default: all columns in one. */
  chunks?: readonly number[];
  words?: readonly (readonly number[])[];
}

interface Drawn {
  ids: NumberArray;
  picked: NumberArray;
  scores: NumberArray;
  logProbs: NumberArray;
}

/** Rows of logits as chunks, each padded with NaN, which a sampler must not read as logits. */
async function draw(backend: Backend, rows: readonly (readonly number[])[], settings: Draw): Promise<Drawn> {
  const R = rows.length;
  const V = rows[0]?.length ?? 4;
  const { temperature, chunks = [V], words } = settings;
  const width = 8 * Math.ceil(V / 8);
  return scopeAsync(async () => {
    const dtype = backend === reference ? "f64" : "f32";
    const pad = (row: readonly number[], to: number, filler: number) =>
      Array.from({ length: to }, (_, v) => (v < row.length ? row[v] : filler));
    const counters = settings.counters ?? rows.flatMap((_, row) => [...tokenCounterRow(placeOf(row))]);
    const table = fromArray(backend, counters, [R, 4], "u32");
    const given =
      words &&
      fromArray(
        backend,
        words.flatMap((row) => pad(row, width, 0)),
        [R, width],
        "u32",
      );
    const samples = emptySamples(fromArray(backend, [], [R, 0], dtype));
    let start = 0;
    for (const count of chunks) {
      const chunkWidth = 8 * Math.ceil(count / 8);
      const values = rows.flatMap((row) => pad(row.slice(start, start + count), chunkWidth, notANumber));
      const logits = fromArray(backend, values, [R, chunkWidth], dtype);
      sampleChunk(logits, { start, count }, table, samples, { key: settings.key ?? key, temperature, words: given });
      start += count;
    }
    assert.equal(start, V, "chunks make up the columns");
    const whole = fromArray(
      backend,
      rows.flatMap((row) => pad(row, width, notANumber)),
      [R, width],
      dtype,
    );
    const sums = emptySums(whole, R, V);
    const scores = emptyScores(whole);
    sumLogits(whole, sums, { start: 0, count: V }, temperature === 0 ? 1 : temperature);
    scorePicked(sums, samples.picked, scores);
    const read = await readTensors([samples.id, samples.picked, samples.score, scores.logProbs]);
    return { ids: read[0], picked: read[1], scores: read[2], logProbs: read[3] };
  });
}

describe("engine/ops/sampling/sampling", (test) => {
  test("known draws from given uniform numbers, in one chunk and in several", async () => {
    const { rows } = readFixture<SamplingFixture>("sampling.json");
    const logits = rows.map((row) => row.logits.map((logit) => logit ?? NEGATIVE_INFINITY));
    // A float32 uniform from 2⁻²⁴ to 1 − 2⁻²⁴ as the word whose (x + ½)·2⁻³² is nearest. Off by 2⁻³³, so by 2⁻⁹ of the
    // distance to 0 or 1 at the most: a Gumbel changes by 0.002, a margin by 0.004. Known margins are above 0.02.
    const words = rows.map((row) => row.uniforms.map((u) => Math.round(u * 2 ** 32 - 0.5)));
    const V = logits[0].length;
    for (const { name, backend } of await all())
      for (const chunks of [[V], [4, 32, V - 36], [V - 1 - ((V - 1) % 4), 1 + ((V - 1) % 4)]])
        for (const [i, { temperature }] of rows[0].draws.entries()) {
          const { ids, logProbs } = await draw(backend, logits, { temperature, chunks, words });
          const known = rows.map((row) => row.draws[i]);
          const context = `temperature ${temperature}`;
          const [knownIds, knownLogProbs] = [known.map(({ id }) => id), known.map(({ logProb }) => logProb)];
          assertKnown("sampling.json", "id", name, ids, knownIds, {}, context);
          assertKnown("sampling.json", "logProb", name, logProbs, knownLogProbs, { absolute: 5e-6 }, context);
        }
  });

  test("the known Gumbel of an id at its place", async () => {
    const { tokens } = readFixture<RandomFixture>("random.json");
    for (const { name, backend } of await all())
      for (const { label, key: known, id, gumbel: expected, ...place } of tokens) {
        // All is shut out but this id, whose logit is 0: its score is its noise.
        const V = 4 * Math.floor(id / 4) + 4;
        const last = Array.from({ length: 4 }, (_, lane) => (lane === id % 4 ? 0 : NEGATIVE_INFINITY));
        const { ids, scores } = await scopeAsync(async () => {
          const dtype = backend === reference ? "f64" : "f32";
          const counters = fromArray(backend, tokenCounterRow(place), [1, 4], "u32");
          const settings = { key: known, temperature: 1 };
          const shutOut = fromArray(backend, [0, 0, 0, 0].fill(NEGATIVE_INFINITY), [1, 4], dtype);
          const logits = fromArray(backend, last, [1, 4], dtype);
          const samples = emptySamples(logits);
          if (V > 4) sampleChunk(shutOut, { start: 0, count: 4 }, counters, samples, settings);
          sampleChunk(logits, { start: V - 4, count: 4 }, counters, samples, settings);
          const [ids, scores] = await readTensors([samples.id, samples.score]);
          return { ids, scores };
        });
        assert.equal(ids[0], id, `${name}: ${label}`);
        assertKnown("random.json", "tokens: gumbel", name, scores, [expected], { absolute: 4e-6 }, label);
      }
  });

  test("ids, scores and picked logits against float64; the same bits in any chunks, batch and segments", async () => {
    for (const [R, V, temperature] of [
      [5, 1, 1],
      [3, 7, 0.7],
      [130, 37, 1.3],
      [3, 256, 1], // fours for 64 lanes, and one id more
      [3, 257, 1],
      [40, 371, 1],
      [3, 2053, 0.5],
    ]) {
      const values = normals(8, R * V, 3);
      const rows = Array.from({ length: R }, (_, r) => [...values.subarray(r * V, (r + 1) * V)]);
      const expected = rows.map((row, r) => {
        const scores = row.map((z, v) => z / temperature + gumbel(tokenWord(v, placeOf(r), key)));
        const [best, second = NEGATIVE_INFINITY] = [...scores].sort((x, y) => y - x);
        return { best, id: scores.indexOf(best), margin: best - second };
      });
      assert.ok(
        expected.every(({ margin }) => margin > 1e-4),
        "a near tie: take another seed",
      );
      let first: Drawn | null = null;
      for (const { name, backend } of await all()) {
        const what = `${name}: [${R}, ${V}]`;
        const found = await draw(backend, rows, { temperature });
        assert.deepEqual(
          [...found.ids],
          expected.map(({ id }) => id),
          what,
        );
        const picked = expected.map(({ id }, r) => rows[r][id] / temperature);
        assertClose(`${what}: picked`, found.picked, picked, { relative: 2 ** -22 });
        assertClose(
          `${what}: scores`,
          found.scores,
          expected.map(({ best }) => best),
          { absolute: 6e-6 },
        );
        if (V > 8) {
          const pieces = await draw(backend, rows, {
            temperature,
            chunks: [8, 4 * Math.floor((V - 9) / 4), V - 8 - 4 * Math.floor((V - 9) / 4)],
          });
          sameBits(`${what}: scores in chunks`, pieces.scores, found.scores);
          sameBits(`${what}: picked in chunks`, pieces.picked, found.picked);
          sameBits(`${what}: ids in chunks`, pieces.ids, found.ids);
        }
        const r = R - 1;
        const alone = await draw(backend, [rows[r]], { temperature, counters: tokenCounterRow(placeOf(r)) });
        sameBits(`${what}: the last row alone`, alone.scores, found.scores.subarray(r));
        if (backend.kind === "cpu") continue;
        first ??= found;
        sameBits(`${what}: as in one piece`, found.scores, first.scores);
      }
    }
  });

  test("ties go to the lowest id, within a four, across lanes and across chunks", async () => {
    const V = 300;
    const base = Array.from({ length: V }, () => -1);
    const cases = [
      [17, 18],
      [3, 4],
      [0, 299],
      [63, 64, 65],
      [120, 250],
      [5, 9, 13, 17, 21],
    ];
    const rows = cases.map((ids) => base.map((z, v) => (ids.includes(v) ? 2 : z)));
    // Zeros of both signs are equal.
    rows.push(base.map((z, v) => (v === 8 ? -0 : v === 11 || v === 200 ? 0 : z)));
    const lowest = [...cases.map((ids) => ids[0]), 8];
    for (const { name, backend } of await all()) {
      for (const chunks of [[V], [64, 64, 172], [4, 296]])
        assert.deepEqual([...(await draw(backend, rows, { temperature: 0, chunks })).ids], lowest, name);
      // With noise: equal logits under equal words.
      const words = rows.map((row) => row.map(() => 12345));
      const { ids } = await draw(backend, rows, { temperature: 0.5, words, chunks: [64, 64, 172] });
      assert.deepEqual([...ids], lowest, `${name}, equal noise`);
    }
  });

  test("greedy takes the largest logit, and its log-probability at temperature 1", async () => {
    const rows = [
      [0.5, -3, 2.5, 2.25, -100],
      [-40, -50, -39, -41, -60],
    ];
    for (const { name, backend } of await all()) {
      const { ids, picked, logProbs } = await draw(backend, rows, { temperature: 0 });
      assert.deepEqual([...ids], [2, 2], name);
      assert.deepEqual([...picked], [2.5, -39], name);
      const expected = rows.map((row) => row[2] - Math.log(row.reduce((sum, z) => sum + Math.exp(z), 0)));
      assertClose(name, logProbs, expected, { absolute: 5e-6 });
    }
  });

  test("no id where a logit is NaN or +∞, or all are −∞, wherever they are", async () => {
    const V = 150;
    const good = Array.from({ length: V }, (_, v) => Math.sin(v));
    const withValue = (value: number, ...ids: number[]) => good.map((z, v) => (ids.includes(v) ? value : z));
    const rows: [number[], boolean][] = [
      [good, true],
      [withValue(notANumber, 0), false],
      [withValue(notANumber, 149), false],
      [withValue(notANumber, 66, 67), false],
      [withValue(-notANumber, 5), false],
      [withValue(POSITIVE_INFINITY, 70), false],
      [withValue(POSITIVE_INFINITY, 1, 148), false],
      [good.map(() => NEGATIVE_INFINITY), false],
      [good.map(() => notANumber), false],
      [good.map((_, v) => (v === 77 ? -5 : NEGATIVE_INFINITY)), true],
      [withValue(NEGATIVE_INFINITY, 0, 1, 2, 3, 149), true],
    ];
    for (const { name, backend } of await all())
      for (const temperature of [0, 1])
        for (const chunks of [[V], [64, 64, 22]]) {
          const { ids, picked, logProbs } = await draw(
            backend,
            rows.map(([row]) => row),
            { temperature, chunks },
          );
          rows.forEach(([row, isSound], i) => {
            const what = `${name}, temperature ${temperature}, row ${i}`;
            assert.equal(ids[i] !== noSample, isSound, what);
            if (isSound) assert.ok(Number.isFinite(row[ids[i]]) && Number.isFinite(picked[i]), what);
            else assert.ok(Number.isNaN(picked[i]) && !Number.isFinite(logProbs[i]), what);
          });
          assert.equal(ids[9], 77, name);
        }
  });

  test("frequencies are the softmax's", async () => {
    const R = 30000;
    const logits = [1.2, -0.3, 0.4, -2, 0.9, -1];
    const temperature = 0.8;
    const weights = logits.map((z) => Math.exp(z / temperature));
    const total = weights.reduce((sum, w) => sum + w);
    const { backend } = (await testBackends())[1];
    const rows = Array.from({ length: R }, () => logits);
    const { ids } = await draw(backend, rows, { temperature });
    const counts = logits.map(() => 0);
    for (const id of ids) counts[id]++;
    const chiSquared = weights.reduce((sum, w, v) => sum + (counts[v] - (R * w) / total) ** 2 / ((R * w) / total), 0);
    // Five degrees of freedom: above 25.7 once in ten thousand.
    assert.ok(chiSquared < 25.7, `chi-squared ${chiSquared}, counts ${counts}`);
  });

  test("each part of a counter and of the key changes the draw", async () => {
    const rows = [Array.from({ length: 371 }, () => 0)];
    const { backend } = (await testBackends())[1];
    const place = placeOf(1);
    const variants = [
      { counters: tokenCounterRow(place) },
      { counters: tokenCounterRow({ ...place, position: place.position + 1 }) },
      { counters: tokenCounterRow({ ...place, turn: place.turn + 1 }) },
      { counters: tokenCounterRow({ ...place, rollout: place.rollout + 1 }) },
      { counters: tokenCounterRow({ ...place, prompt: place.prompt + 1 }) },
      { counters: tokenCounterRow(place), key: tokenKey(3, "landscape", 0) },
      { counters: tokenCounterRow(place), key: [key[0], key[1] ^ 1] as const },
    ];
    const scores = new Set<number>();
    for (const variant of variants) scores.add((await draw(backend, rows, { temperature: 1, ...variant })).scores[0]);
    assert.equal(scores.size, variants.length);
  });

  test("no rows, and refusals", async () => {
    const { backend } = (await testBackends())[1];
    assert.equal((await draw(backend, [], { temperature: 1 })).ids.length, 0);
    await scopeAsync(async () => {
      const logits = fromArray(backend, normals(1, 16), [2, 8]);
      const counters = fromArray(backend, [1, 2, 3, 4], [1, 4], "u32");
      const samples = emptySamples(logits);
      const settings = { key, temperature: 1 };
      await throwsMessage(
        () => sampleChunk(logits, { start: 0, count: 8 }, counters, samples, settings),
        "sampleChunk: counters: expected [2,4], got [1,4]",
      );
      const both = fromArray(backend, [1, 2, 3, 4, 5, 6, 7, 8], [2, 4], "u32");
      await throwsMessage(() => sampleChunk(logits, { start: 6, count: 8 }, both, samples, settings), "multiple of 4");
      await throwsMessage(() => sampleChunk(logits, { start: 8, count: 9 }, both, samples, settings), "at most 8", "9");
    });
  });
});
