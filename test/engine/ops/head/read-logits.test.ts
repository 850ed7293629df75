// Samples and a divergence from one pass over the logits: the bits of each by itself.
import * as assert from "uvu/assert";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { head } from "../../../../engine/ops/head/head.ts";
import { klAndScore, klReader, noRowOfP } from "../../../../engine/ops/head/kl-divergence.ts";
import { blockColumns, type ChunkSettings } from "../../../../engine/ops/head/logits.ts";
import { readLogits } from "../../../../engine/ops/head/read-logits.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { sampleTokens, tokenSampler } from "../../../../engine/ops/sampling/sample-tokens.ts";
import { type Parameter, type RowGroup, selectBatchRows } from "../../../../engine/parameters.ts";
import { tokenCounterRow, tokenKey } from "../../../../engine/random.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe } from "../../../support.ts";
import { normals, sameBits } from "../../check-op.ts";

const key = tokenKey(5, "train", 3);
const [R, S, C] = [210, 20, 6];
const groups: readonly RowGroup[] = [
  { start: 0, count: 70, point: 3 },
  { start: 70, count: 140, point: 8 },
];
/** In chunks of 64 rows: some of the first and third, none of the second, all of the last. */
const isCompared = (row: number): boolean => (row < 128 ? row < 60 && row % 2 === 1 : row >= 192 || row % 3 === 0);
const compared = Uint32Array.from({ length: R }, (_, row) => row).filter(isCompared);
const rowOfP = Uint32Array.from({ length: R }, (_, row) => (isCompared(row) ? (row * 7) % S : noRowOfP));
/** Two targets after some rows, none after others. */
const rowOfTarget = Uint32Array.from({ length: 90 }, (_, n) => compared[(n * 5) % compared.length]);
/** Draws are from rows that are compared and from others, some from one row. */
const rowOfDraw = Uint32Array.from({ length: 110 }, (_, n) => (n * 13) % 101);

const picked = (values: ArrayLike<number>, rows: Iterable<number>): number[] =>
  [...rows].flatMap((row) => Array.from(values).slice(row * C, (row + 1) * C));
const u32 = (backend: Backend, values: ArrayLike<number>): Tensor => fromArray(backend, values, [values.length], "u32");

describe("engine/ops/head/read-logits", (test) => {
  for (const [V, chunks] of [
    [371, {}],
    [371, { rowChunk: 64 }],
    [2 * blockColumns + 3, { columnChunk: 3 * blockColumns }],
    [2 * blockColumns + 3, { rowChunk: 64, columnChunk: blockColumns }],
    [2 * blockColumns + 3, { columnChunk: blockColumns }],
  ] as [number, ChunkSettings][])
    for (const temperature of [1, 0.7, 0])
      test(`${V} logits ${JSON.stringify(chunks)}, draws at ${temperature}, KL at 1: as each alone`, async () => {
        for (const { name, backend } of await testBackends()) {
          // A software driver maps each buffer by itself, and a process may have only so many maps.
          if (V > 371 && name.includes("segments")) continue;
          const before = backend.statistics().liveBuffers;
          await scopeAsync(() => compareWays(name, backend, V, chunks, temperature));
          assert.is(backend.statistics().liveBuffers, before, "buffers left behind");
        }
      });

  test("logits that nothing reads are not computed", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const hidden = fromArray(backend, normals(1, S * C), [S, C]);
        const weight = {
          kind: "tensor",
          tensor: fromArray(backend, normals(2, 37 * C), [37, C]),
          panels: null,
        } as const;
        const before = backend.statistics().dispatches;
        assert.equal(readLogits(hidden, weight, null, []), []);
        assert.is(backend.statistics().dispatches, before, name);
      });
  });
});

async function compareWays(
  name: string,
  backend: Backend,
  V: number,
  chunks: ChunkSettings,
  temperature: number,
): Promise<void> {
  const ofQ = normals(1, R * C);
  const slots = new Map(
    groups.map(({ point }) => {
      const panels = empty(backend, panelShape(V, C));
      packPanels(fromArray(backend, normals(point, V * C), [V, C]), panels);
      return [point, { rows: null, panels }];
    }),
  );
  const headQ: Parameter = { kind: "slots", shape: [V, C], slots };
  const headP = { kind: "tensor", tensor: fromArray(backend, normals(4, V * C), [V, C]), panels: null } as const;
  const hiddenP = fromArray(backend, normals(5, S * C), [S, C]);
  const { logSumExp: logSumExpP } = head(hiddenP, headP, u32(backend, new Array(S).fill(0)), { temperature: 1 }, null);
  const p = { hiddenP, headP, logSumExpP };
  const targets = u32(
    backend,
    Array.from(rowOfTarget, (_, n) => (n * 31) % V),
  );
  const counters = fromArray(
    backend,
    Array.from(rowOfDraw, (_, n) => tokenCounterRow({ position: n, turn: n % 3, rollout: 7 * n, prompt: 9 })).flat(),
    [rowOfDraw.length, 4],
    "u32",
  );

  const hidden = fromArray(backend, ofQ, [R, C]);
  const sampler = tokenSampler(hidden, headQ, { counters, rowOf: u32(backend, rowOfDraw), key, temperature });
  const reader = klReader({ hiddenQ: hidden, headQ, ...p, rowOfP, targets, rowOfTarget, temperature: 1 });
  const [samples, [logProbs, entropy, logSumExp, kl]] = readLogits(hidden, headQ, groups, [sampler, reader], chunks);

  const rowsAlone = selectBatchRows(groups, compared);
  const alone = klAndScore({
    hiddenQ: fromArray(backend, picked(ofQ, compared), [compared.length, C]),
    ...{ headQ, rows: rowsAlone, ...p, targets, temperature: 1 },
    rowOfP: compared.map((row) => rowOfP[row]),
    rowOfTarget: rowOfTarget.map((row) => compared.indexOf(row)),
  });
  const order = Uint32Array.from(rowOfDraw).sort();
  const drawnFrom = order.filter((row, i) => i === 0 || row !== order[i - 1]);
  const ownDraws = sampleTokens(
    fromArray(backend, picked(ofQ, drawnFrom), [drawnFrom.length, C]),
    headQ,
    selectBatchRows(groups, drawnFrom),
    {
      counters,
      rowOf: u32(
        backend,
        rowOfDraw.map((row) => drawnFrom.indexOf(row)),
      ),
      key,
      temperature,
    },
  );
  const found = await readTensors([...samples, logProbs, entropy, logSumExp, kl]);
  const expected = await readTensors([
    ...[ownDraws.ids, ownDraws.logProbs, ownDraws.entropy],
    ...[alone.logProbs, alone.entropy, alone.logSumExp, alone.kl],
  ]);
  const names = ["ids", "log-probabilities of draws", "their entropy", "logProbs", "entropy", "logSumExp", "kl"];
  for (const [i, what] of names.entries()) {
    // Of what each row has, only rows that are compared count.
    const isPerRow = i > 3;
    sameBits(`${name}: ${what}`, isPerRow ? found[i].filter((_, row) => isCompared(row)) : found[i], expected[i]);
  }
  assert.ok(Array.from(expected[6]).every((value) => value > 1e-3));
}
