// The tokens whose final states are wanted: the last layer computes these alone, to the bits of a pass that computes all.
import * as assert from "uvu/assert";
import type { NumberArray, RowGroup, Tensor, Weights } from "../../engine/index.ts";
import { add, fromArray, gatherRows, noGradient, readTensors, record, scope, scopeAsync } from "../../engine/index.ts";
import { makeSlice } from "../../landscape/measure/directions.ts";
import { PerturbedWeights } from "../../landscape/measure/perturbed-weights.ts";
import { simulationRandom } from "../../landscape/statistics/random.ts";
import { distinctTokens } from "../../model/batch.ts";
import {
  answerScores,
  answerStates,
  distinctAnswers,
  distinctStates,
  loadModel,
  packSequences,
} from "../../model/index.ts";
import { testBackends } from "../backends.ts";
import { normals } from "../engine/check-op.ts";
import { describe, fixturePath } from "../support.ts";

const sequences = [
  [3, 1, 4, 1, 5, 9, 2, 6, 5],
  [8, 9, 7, 9],
  [2, 7, 1, 8, 2, 8, 1],
];
/** The end of a sequence, tokens apart from each other, none of the second sequence. */
const wanted = [4, 6, 7, 8, 13, 14, 19];

describe("model/batch-outputs", (test) => {
  for (const folder of ["qwen2-tiny", "qwen2-untied-odd"])
    test(`${folder}: final states of some tokens have the bits of those of all tokens`, async () => {
      for (const { name, backend } of await testBackends()) {
        const { config, weights } = await loadModel(backend, fixturePath(folder));
        const slots = new PerturbedWeights(weights, 2);
        const cells = [0, 0.1].map((alpha, i) => ({ i, j: 0, alpha, beta: 0, squaredSteps: i }));
        slots.place(cells, await makeSlice(weights, 1, 0));
        // The second group has no wanted token.
        const groups: RowGroup[] = [
          { start: 0, count: 9, point: 1 },
          { start: 9, count: 4, point: 0 },
          { start: 13, count: 7, point: 0 },
        ];
        const cases: { read: Weights; rows: RowGroup[] | null }[] = [
          { read: weights, rows: null },
          { read: slots, rows: groups },
        ];
        for (const { read, rows } of cases) {
          const states = (some: readonly number[] | null): Promise<ArrayLike<number>> =>
            scopeAsync(async () =>
              noGradient(() => {
                const result = config.forward(read, packSequences(backend, sequences, rows, some), null);
                assert.equal(result.shape, [some === null ? 20 : some.length, config.hiddenSize]);
                return result.read();
              }),
            );
          const all = Array.from(await states(null));
          const expected = wanted.flatMap((t) => all.slice(t * config.hiddenSize, (t + 1) * config.hiddenSize));
          assert.equal(Array.from(await states(wanted)), expected, `${name}, ${rows === null ? "plain" : "perturbed"}`);
        }
        slots.free();
        weights.free();
      }
    });

  for (const recomputeLayers of [false, true])
    test(`gradients from some tokens have the bits of those from all tokens${recomputeLayers ? ", layers recomputed" : ""}`, async () => {
      for (const { name, backend } of await testBackends()) {
        const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"), { trainable: true });
        // More rows than one chunk of a sum has.
        const many = Array.from({ length: 8 }, () => sequences).flat();
        const some = Array.from({ length: 8 }, (_, i) => wanted.map((t) => 20 * i + t)).flat();
        const gradients = async (isCut: boolean): Promise<NumberArray[]> => {
          weights.clearGradients();
          scope(() => {
            const recording = record(() => {
              const batch = packSequences(backend, many, null, isCut ? some : null);
              const states = config.forward(weights, batch, null, { recomputeLayers });
              return isCut ? states : gatherRows(states, some);
            });
            const { result } = recording;
            const seed = fromArray(backend, normals(5, result.size), result.shape, "f32");
            recording.backward(new Map([[result, seed]]), weights.gradients);
          });
          weights.completeGradients();
          return readTensors(weights.names.map((parameter) => weights.gradient(parameter)));
        };
        const all = await gradients(false);
        const found = await gradients(true);
        // Equal numbers: a sum of zeros may be 0 or −0.
        weights.names.forEach(
          (parameter, i) => void assert.equal(Array.from(found[i]), Array.from(all[i]), `${name}: ${parameter}`),
        );
        weights.free();
      }
    });

  test("answers of one prompt: tokens in common are computed once, forward and backward", async () => {
    const prompt = [3, 1, 4, 1, 5, 9];
    const answers = [[2, 6], [2, 6, 5], [2, 7, 1], [8], [2, 6], [8, 2, 8, 1]];
    // Two prompts, of which the second begins as the first.
    const many = [prompt, [3, 1, 4, 2, 2, 2, 7]].flatMap((own) =>
      answers.map((answer) => ({
        ids: [...own, ...answer],
        mask: [...own.map(() => 0), ...answer.map(() => 1)],
      })),
    );
    const ids = many.map((sequence) => sequence.ids);
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"), { trainable: true });
      const model = { backend, config, weights };
      /** The rows that each product of the forward pass has. */
      let rows: number[] = [];
      const { dispatch } = backend;
      backend.dispatch = (work) => {
        if (work.kernel.name === "embedding") rows.push(work.params["rows"]);
        dispatch.call(backend, work);
      };
      /** The values and the sum of the gradients of lists of sequences, each recorded by itself. */
      const take = async (
        from: (own: typeof many) => Tensor,
        parts: readonly (typeof many)[],
      ): Promise<{ values: number[]; gradients: NumberArray[] }> => {
        weights.clearGradients();
        rows = [];
        const values: number[] = [];
        for (const part of parts)
          await scopeAsync(async () => {
            const recording = record(() => from(part));
            const { result } = recording;
            const upstream = normals(5, values.length + result.size).slice(values.length);
            const seed = fromArray(backend, upstream, result.shape);
            recording.backward(new Map([[result, seed]]), weights.gradients);
            values.push(...(await result.read()));
          });
        weights.completeGradients();
        return { values, gradients: await readTensors(weights.names.map((one) => weights.gradient(one))) };
      };
      const statesOf = (own: typeof many): Tensor => answerStates(model, own).hidden;
      const scoresOf = (own: typeof many): Tensor => {
        const { logProbs, entropy } = answerScores(model, own, { temperature: 0.8 });
        return add(logProbs, entropy);
      };
      for (const from of [statesOf, scoresOf]) {
        const together = await take(from, [many]);
        assert.is(rows[0], distinctTokens(ids).ids.length, name);
        const alone = await take(
          from,
          many.map((one) => [one]),
        );
        assert.equal(together.values, alone.values, name);
        // The order of the sums is another one. Their rounding is far below a token that is left out or counted twice.
        weights.names.forEach((parameter, i) => {
          const expected = alone.gradients[i];
          const largest = Math.max(...Array.from(expected, Math.abs));
          together.gradients[i].forEach((value, k) => {
            const isClose = Math.abs(value - expected[k]) <= 2e-6 * largest;
            assert.ok(isClose, `${name}: ${parameter}[${k}]: ${value}, not ${expected[k]}`);
          });
        });
      }
      Object.assign(backend, { dispatch });
      weights.free();
    }
  });

  test("distinct tokens: each knows the tokens that it sees and those that see it", () => {
    const random = simulationRandom(7);
    for (let round = 0; round < 200; round++) {
      // Few different ids, so that many lists begin alike; some are equal, some empty.
      const lists = Array.from({ length: 1 + random.integer(9) }, () =>
        Array.from({ length: random.integer(7) }, () => random.integer(2)),
      );
      const { ids, positions, spans, querySpans, places } = distinctTokens(lists);
      const seenBy = Array.from(ids, (): number[] => []);
      for (const query of ids.keys()) {
        const [prefixStart, prefixLength, ownStart, length] = spans.subarray(4 * query, 4 * query + 4);
        for (let j = 0; j < length; j++) {
          const key = j < prefixLength ? prefixStart + j : ownStart + j - prefixLength;
          assert.is(positions[key], j);
          seenBy[key].push(query);
        }
      }
      for (const [key, queries] of seenBy.entries()) {
        const [first, count] = querySpans.subarray(2 * key, 2 * key + 2);
        assert.equal(
          queries,
          Array.from({ length: count }, (_, i) => first + i),
          JSON.stringify(lists),
        );
      }
      let token = 0;
      for (const list of lists)
        for (const [t, id] of list.entries()) {
          const place = places[token++];
          assert.equal([ids[place], positions[place]], [id, t]);
          const [prefixStart, prefixLength, ownStart, length] = spans.subarray(4 * place, 4 * place + 4);
          const seen = Array.from({ length }, (_, j) =>
            j < prefixLength ? ids[prefixStart + j] : ids[ownStart + j - prefixLength],
          );
          assert.equal(seen, list.slice(0, t + 1));
        }
    }
  });

  test("scored answers: each distinct one is computed once, to the bits of every sequence by itself", async () => {
    const prompt = [3, 1, 4, 1, 5, 9];
    const tails = [
      [2, 6],
      [2, 6, 5],
      [2, 7, 1],
      [2, 6],
    ];
    const many = tails.map((tail) => ({
      ids: [...prompt, ...tail],
      mask: [...prompt.map(() => 0), ...tail.map(() => 1)],
    }));
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const slots = new PerturbedWeights(weights, 2);
      const cells = [0, 0.1].map((alpha, i) => ({ i, j: 0, alpha, beta: 0, squaredSteps: i }));
      slots.place(cells, await makeSlice(weights, 1, 0));
      const model = { backend, config, weights: slots };
      const answers = distinctAnswers(config, many);
      // After the prompt 2; after that 6 or 7; after those 5 or 1.
      assert.equal([answers.targets.length, answers.tokens.ids.length], [5, 11]);
      const valuesOf = async (states: () => { hidden: Tensor }): Promise<number[]> =>
        Array.from(await scopeAsync(() => states().hidden.read()));
      const found = await valuesOf(() => distinctStates(model, answers, [1]));
      const alone: number[][] = [];
      for (const one of many) alone.push(await valuesOf(() => answerStates(model, [one], 1)));
      const row = (values: number[], place: number): number[] =>
        values.slice(place * config.hiddenSize, (place + 1) * config.hiddenSize);
      assert.equal(
        [...answers.places].flatMap((place) => row(found, place)),
        alone.flat(),
        name,
      );
      slots.free();
      weights.free();
    }
  });

  test("a key is seen by those of its queries that are wanted", async () => {
    const [{ backend }] = await testBackends();
    const { spans, querySpans } = await scopeAsync(async () => {
      const { outputs } = packSequences(
        backend,
        [
          [1, 2, 3],
          [4, 5],
        ],
        null,
        [1, 4],
      );
      if (outputs?.querySpans == null) throw new Error("expected query spans");
      return { spans: await outputs.spans.read(), querySpans: await outputs.querySpans.read() };
    });
    assert.equal(Array.from(spans), [0, 0, 0, 2, 0, 0, 3, 2]);
    assert.equal(Array.from(querySpans), [0, 1, 0, 1, 1, 0, 1, 1, 1, 1]);
  });
});
