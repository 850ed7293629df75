import * as assert from "uvu/assert";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { head } from "../../../../engine/ops/head/head.ts";
import { blockColumns, type ChunkSettings, lowestTemperature } from "../../../../engine/ops/head/logits.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { sampleTokens } from "../../../../engine/ops/sampling/sample-tokens.ts";
import { seenWords } from "../../../../engine/ops/sampling/warp.ts";
import type { BatchRows, Parameter, RowGroup } from "../../../../engine/parameters.ts";
import { gumbel, tokenCounterRow, tokenKey, tokenWord } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

const key = tokenKey(5, "train", 3);
/** Row r is position r of turn r % 3, rollout 7r. */
const placeOf = (row: number) => ({ position: row, turn: row % 3, rollout: 7 * row, prompt: 0xdeadbeef });
const countersOf = (R: number, first = 0): number[] =>
  Array.from({ length: R }, (_, r) => tokenCounterRow(placeOf(first + r))).flat();

/** All scores of a row by plain loops in float64: z / τ + Gumbel, or the logits where τ = 0. */
function plainScores(
  hidden: ArrayLike<number>,
  weight: ArrayLike<number>,
  C: number,
  V: number,
  row: number,
  temperature: number,
): number[] {
  return Array.from({ length: V }, (_, v) => {
    let logit = 0;
    for (let c = 0; c < C; c++) logit += hidden[row * C + c] * weight[v * C + c];
    return temperature === 0 ? logit : logit / temperature + gumbel(tokenWord(v, placeOf(row), key));
  });
}

describe("engine/ops/sampling/sample-tokens", (test) => {
  for (const [R, C, V] of [
    [3, 4, 1],
    [5, 6, 8],
    [70, 6, 371],
    [4, 5, 4 * blockColumns + 3],
  ])
    for (const temperature of [0, 0.7, 1])
      test(`${R} rows of ${V} tokens at temperature ${temperature}: the argmax, scored as head scores it`, async () => {
        const hidden = normals(1, R * C);
        const weight = normals(2, V * C);
        const expected = Array.from({ length: R }, (_, row) => {
          const scores = plainScores(hidden, weight, C, V, row, temperature);
          const id = scores.reduce((best, score, v) => (score > scores[best] ? v : best), 0);
          const margin = scores.reduce(
            (least, score, v) => (v === id ? least : Math.min(least, scores[id] - score)),
            1,
          );
          return { id, margin };
        });
        for (const { name, backend } of await testBackends())
          for (const chunks of [{}, { rowChunk: 2, columnChunk: blockColumns }]) {
            const { ids, logProbs, entropy, scored } = await sampleAndScore(
              backend,
              [R, C, V],
              { hidden, weight },
              temperature,
              chunks,
            );
            // Logits in f32 err by some 1e-6, Gumbels by 4e-6: nearer ties may go either way.
            expected.forEach(({ id, margin }, row) => {
              if (margin > 3e-5) assert.is(ids[row], id, `${name}: row ${row}`);
            });
            assert.ok(expected.filter(({ margin }) => margin > 3e-5).length >= R - 1);
            sameBits(`${name}: logProbs`, logProbs, scored.logProbs);
            sameBits(`${name}: entropy`, entropy, scored.entropy);
          }
      });

  test("rows of several grid points draw from their own weights, as each alone", async () => {
    const [R, C, V] = [9, 5, 371];
    const groups: RowGroup[] = [
      { start: 0, count: 4, point: 3 },
      { start: 4, count: 5, point: 8 },
    ];
    const hidden = normals(1, R * C);
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const slots = new Map(
          groups.map(({ point }) => {
            const panels = empty(backend, panelShape(V, C));
            packPanels(fromArray(backend, normals(point, V * C), [V, C]), panels);
            return [point, { rows: null, panels }];
          }),
        );
        const draw = async (values: Float64Array, first: number, weight: Parameter, rows: BatchRows) => {
          const count = values.length / C;
          const counters = fromArray(backend, countersOf(count, first), [count, 4], "u32");
          const { ids, logProbs } = sampleTokens(fromArray(backend, values, [count, C]), weight, rows, {
            counters,
            key,
            temperature: 1,
          });
          return readTensors([ids, logProbs]);
        };
        const [ids, logProbs] = await draw(hidden, 0, { kind: "slots", shape: [V, C], slots }, groups);
        for (const { start, count, point } of groups) {
          const tensor = fromArray(backend, normals(point, V * C), [V, C]);
          const own = hidden.slice(start * C, (start + count) * C);
          const alone = await draw(own, start, { kind: "tensor", tensor, panels: null }, null);
          sameBits(`${name}: ids`, ids.slice(start, start + count), alone[0]);
          sameBits(`${name}: logProbs`, logProbs.slice(start, start + count), alone[1]);
        }
      });
  });

  test("several draws from one row, or none: each as from a row of its own", async () => {
    const [R, C] = [70, 6];
    // In no order; some rows have none.
    const rowOf = Array.from({ length: 190 }, (_, draw) => (draw * 29 + (draw % 3)) % (R - 5));
    const hidden = normals(1, R * C);
    const pick = <T extends Float64Array | Uint32Array>(from: T, size: number): number[] =>
      rowOf.flatMap((row) => Array.from(from.subarray(row * size, (row + 1) * size)));
    const P = rowOf.length;
    for (const { name, backend } of await testBackends()) {
      // A software driver maps each buffer by itself, and a process may have only so many maps.
      const V = name.includes("segments") ? 371 : 2 * blockColumns + 371;
      const weight = normals(2, V * C);
      const words = seenWords(V);
      const seen = Uint32Array.from(normals(3, R * words), (value) => Math.abs(value) * 1e9);
      for (const temperature of [0, 0.7])
        for (const chunks of [{}, { rowChunk: 64, columnChunk: blockColumns }])
          for (const warping of [undefined, { topK: 9, topP: 0.95, repetitionPenalty: 1.3 }]) {
            const [one, other] = await scopeAsync(async () => {
              const parameter: Parameter = {
                kind: "tensor",
                tensor: fromArray(backend, weight, [V, C]),
                panels: null,
              };
              const counters = fromArray(backend, countersOf(P), [P, 4], "u32");
              const draw = async (states: ArrayLike<number>, seenIds: ArrayLike<number>, table: number[] | null) => {
                const rows = states.length / C;
                const { ids, logProbs, entropy } = sampleTokens(
                  fromArray(backend, states, [rows, C]),
                  parameter,
                  null,
                  {
                    ...{ counters, key, temperature, ...chunks },
                    rowOf: table && fromArray(backend, table, [P], "u32"),
                    warping: warping && { ...warping, seen: fromArray(backend, seenIds, [rows, words], "u32") },
                  },
                );
                return readTensors([ids, logProbs, entropy]);
              };
              return [await draw(hidden, seen, rowOf), await draw(pick(hidden, C), pick(seen, words), null)];
            });
            const what = `${name}: temperature ${temperature}, ${JSON.stringify(chunks)}, ${JSON.stringify(warping)}`;
            ["ids", "logProbs", "entropy"].forEach((result, i) => {
              sameBits(`${what}: ${result}`, one[i], other[i]);
            });
            assert.ok(new Set(one[0]).size > 20, what);
          }
    }
  });

  test("logits that are no numbers give no id and no finite log-probability", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const hidden = fromArray(backend, [Number.NaN, 1, 1, 1], [2, 2]);
        const weight: Parameter = {
          kind: "tensor",
          tensor: fromArray(backend, normals(2, 371 * 2), [371, 2]),
          panels: null,
        };
        for (const temperature of [0, 1]) {
          const counters = fromArray(backend, countersOf(2), [2, 4], "u32");
          const { ids, logProbs } = sampleTokens(hidden, weight, null, { counters, key, temperature });
          const [found, scores] = await readTensors([ids, logProbs]);
          assert.is(found[0], 0xffffffff, name);
          assert.ok(found[1] < 371, name);
          assert.equal([...scores].map(Number.isFinite), [false, true], name);
        }
      });
  });

  test("no rows", async () => {
    for (const { backend } of await testBackends())
      for (const temperature of [0, 1]) {
        const { ids } = await sampleAndScore(
          backend,
          [0, 3, 371],
          { hidden: [], weight: normals(1, 371 * 3) },
          temperature,
          {},
        );
        assert.is(ids.length, 0);
      }
  });

  test("the lowest temperature draws what greedy draws, with finite scores", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const hidden = fromArray(backend, normals(1, 5 * 16), [5, 16]);
        const weight: Parameter = {
          kind: "tensor",
          tensor: fromArray(backend, normals(2, 50 * 16), [50, 16]),
          panels: null,
        };
        const counters = fromArray(backend, countersOf(5), [5, 4], "u32");
        const at = (temperature: number) => sampleTokens(hidden, weight, null, { counters, key, temperature });
        const [lowest, greedy] = [at(lowestTemperature), at(0)];
        const [ids, expected, logProbs] = await readTensors([lowest.ids, greedy.ids, lowest.logProbs]);
        assert.equal([...ids], [...expected], name);
        assert.equal([...logProbs], [0, 0, 0, 0, 0], name);
      });
  });

  test("refuses what does not go together", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const hidden = fromArray(backend, normals(1, 6), [2, 3]);
      const weight: Parameter = { kind: "tensor", tensor: fromArray(backend, normals(2, 12), [4, 3]), panels: null };
      const counters = fromArray(backend, countersOf(1), [1, 4], "u32");
      await throwsMessage(
        () => sampleTokens(hidden, weight, null, { counters, key, temperature: 1 }),
        "sampleTokens: counters: expected [2,4], got [1,4]",
      );
      await throwsMessage(
        () => sampleTokens(hidden, weight, null, { counters: counters, key, temperature: -1 }),
        "sampleTokens",
      );
      // The quotients of f32 logits would overflow: garbage ids, or a complaint about NaN weights.
      const both = fromArray(backend, countersOf(2), [2, 4], "u32");
      for (const temperature of [1e-39, 1e-30, 9e-6])
        await throwsMessage(
          () => sampleTokens(hidden, weight, null, { counters: both, key, temperature }),
          "0 is greedy",
          `expected a number from 0.00001 on, got ${temperature}`,
        );
    });
  });
});

async function sampleAndScore(
  backend: Backend,
  [R, C, V]: readonly number[],
  { hidden, weight }: { hidden: ArrayLike<number>; weight: ArrayLike<number> },
  temperature: number,
  chunks: ChunkSettings,
) {
  const before = backend.statistics().liveBuffers;
  const result = await scopeAsync(async () => {
    const x = fromArray(backend, hidden, [R, C]);
    const parameter: Parameter = { kind: "tensor", tensor: fromArray(backend, weight, [V, C]), panels: null };
    const counters = fromArray(backend, countersOf(R), [R, 4], "u32");
    const sampled = sampleTokens(x, parameter, null, { counters, key, temperature, ...chunks });
    const scores = head(x, parameter, sampled.ids, { temperature: temperature === 0 ? 1 : temperature }, null);
    const read = await readTensors([sampled.ids, sampled.logProbs, sampled.entropy, scores.logProbs, scores.entropy]);
    const [ids, logProbs, entropy, headLogProbs, headEntropy] = read;
    return { ids, logProbs, entropy, scored: { logProbs: headLogProbs, entropy: headEntropy } };
  });
  assert.is(backend.statistics().liveBuffers, before, "buffers left behind");
  return result;
}
