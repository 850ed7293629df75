import assert from "node:assert/strict";
import {
  directionCounter,
  directionNormals,
  exponential,
  gumbel,
  normals,
  philox,
  philoxKey,
  tokenCounterRow,
  tokenKey,
  tokenWord,
  type WordPair,
  type WordQuad,
  wordsOf,
} from "../../engine/random.ts";
import { assertClose, assertKnown, describe, readFixture, throwsMessage } from "../support.ts";
import type { PhiloxFixture, RandomFixture } from "./random-fixtures.ts";

describe("engine/random", (test) => {
  const known = readFixture<RandomFixture>("random.json");

  test("Philox 4×32-10: Random123's vectors and others, word for word", () => {
    const { known, further } = readFixture<PhiloxFixture>("philox.json");
    assert.ok(known.length > 0 && further.length > 0);
    for (const { counter, key, output } of [...known, ...further])
      assertKnown("philox.json", "words", "host", philox(counter, key), output, {}, `counter ${counter}, key ${key}`);
  });

  test("exponentials and Gumbels of single words, the extreme ones included", () => {
    for (const { word, exponential: e, gumbel: g } of known.words) {
      assertKnown("random.json", "exponentials", "host", [exponential(word)], [e], { relative: 1e-14 }, `of ${word}`);
      const gumbels = { relative: 1e-12, absolute: 1e-12 };
      assertKnown("random.json", "gumbels", "host", [gumbel(word)], [g], gumbels, `of ${word}`);
    }
  });

  test("four normals from four words", () => {
    for (const { words, normals: expected } of known.quads)
      assertKnown("random.json", "normals", "host", normals(words), expected, { absolute: 1e-12 }, `of ${words}`);
  });

  test("directions: keys, names and normals, elements past 2³⁴ too", () => {
    for (const { label, key, tensor, nameWords, firstElement, normals: expected } of known.directions) {
      assert.deepEqual(philoxKey(label), key);
      assert.deepEqual(wordsOf(tensor), nameWords);
      const values = directionNormals(key, nameWords, expected.length, firstElement);
      const context = `${label} of ${tensor} from ${firstElement}`;
      assertKnown("random.json", "directions", "host", values, expected, { absolute: 1e-12 }, context);
    }
  });

  test("a direction from any element on is the same direction", () => {
    const key = philoxKey("direction|1|0|delta");
    const name = wordsOf("model.norm.weight");
    const whole = directionNormals(key, name, 40);
    for (const first of [0, 1, 2, 3, 5, 8, 31])
      for (const count of [0, 1, 2, 4, 7, 9])
        assert.deepEqual(directionNormals(key, name, count, first), whole.slice(first, first + count));
    assert.notDeepEqual(directionNormals(key, wordsOf("model.norm.bias"), 4), whole.slice(0, 4));
  });

  test("64-bit elements: the counter's second word begins at 2³⁴", () => {
    const name: WordPair = [7, 8];
    const cases: [number, WordQuad][] = [
      [3, [0, 0, 7, 8]],
      [2 ** 32, [2 ** 30, 0, 7, 8]],
      [2 ** 34 - 1, [2 ** 32 - 1, 0, 7, 8]],
      [2 ** 34, [0, 1, 7, 8]],
      [5 * 2 ** 34 + 4, [1, 5, 7, 8]],
    ];
    for (const [element, counter] of cases) assert.deepEqual(directionCounter(element, name), counter);
  });

  test("tokens: key, prompt, word and Gumbel", () => {
    for (const { label, key, firstUserMessage, word, gumbel: expected, id, ...place } of known.tokens) {
      assert.deepEqual(philoxKey(label), key);
      assert.equal(wordsOf(firstUserMessage)[0], place.prompt);
      assert.equal(tokenWord(id, place, key), word);
      assertKnown("random.json", "tokens: gumbel", "host", [gumbel(word)], [expected], { absolute: 1e-12 }, label);
    }
  });

  test("tokens: one spelling of key and counter, and no place that shares its noise", async () => {
    for (const { label, key } of known.tokens) {
      const [kind, seed, purpose, step] = label.split("|");
      assert.equal(kind, "token");
      assert.deepEqual(tokenKey(Number(seed), purpose, Number(step)), key);
    }
    const place = { position: 2 ** 24 - 1, turn: 255, rollout: 4, prompt: 5 };
    assert.deepEqual(tokenCounterRow(place), [2 ** 32 - 1, 4, 5, 0]);
    for (const other of [{ position: 2 ** 24 }, { turn: 256 }, { position: -1 }, { turn: Number.NaN }])
      await throwsMessage(() => tokenCounterRow({ ...place, ...other }), "position below 16777216", "turn below 256");
  });

  test("no value is infinite, and the two halves of E meet", () => {
    for (const word of [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1]) {
      assert.ok(exponential(word) > 0 && Number.isFinite(gumbel(word)), String(word));
    }
    for (let word = 2 ** 31 - 4; word < 2 ** 31 + 4; word++)
      assertClose("step", [exponential(word) - exponential(word + 1)], [2 ** -31], { relative: 1e-6 });
  });
});
