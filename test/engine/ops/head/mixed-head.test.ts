// The head and the KL divergence with copies of their weights in f16, whose products use matrix units.
import assert from "node:assert/strict";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { f16ToF32, f32ToF16 } from "../../../../engine/dtype-conversion.ts";
import { head, headOp, mixedHeadOp } from "../../../../engine/ops/head/head.ts";
import { klAndScore, klDivergenceOp, mixedKlDivergenceOp } from "../../../../engine/ops/head/kl-divergence.ts";
import { blockColumns } from "../../../../engine/ops/head/logits.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { matrixUnits } from "../../../../engine/ops/shared/matrix-units.ts";
import type { Parameter } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends, webgpuBackend } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { halfCopies } from "../../half-copies.ts";

const someTargets = (T: number, V: number): number[] =>
  Array.from({ length: T }, (_, t) => (t === 0 ? V - 1 : (t - 1) * 97) % V);
const targets = (T: number, V: number) => ({ shape: [T], values: someTargets(T, V), dtype: "u32" }) as const;
const inputs = (T: number, C: number, V: number) => ({ hidden: [T, C], weight: [V, C], targets: targets(T, V) });

const withHalf = (weight: Tensor): Parameter => ({
  kind: "tensor",
  tensor: weight,
  panels: null,
  half: halfCopies(weight),
});

function given<T>(value: T | null): T {
  if (value === null) throw new Error("an input is missing");
  return value;
}

const { backend: whole } = await webgpuBackend();
const withUnits = (await testBackends()).filter(({ backend }) => matrixUnits(backend) !== null);

/** Probabilities' logs, entropies and log-sum-exps of some rows. */
async function scoresOf(backend: Backend, hidden: Tensor, weight: Parameter, ids: readonly number[]) {
  const tokens = fromArray(backend, ids, [ids.length], "u32");
  const { logProbs, entropy, logSumExp } = head(hidden, weight, tokens, { temperature: 0.8 });
  return { tokens, logSumExp, values: await readTensors([logProbs, entropy, logSumExp]) };
}

describe("engine/ops/head/mixed-head", (test) => {
  test("without matrix units the copies in f16 change no bit", async () => {
    const [T, C, V] = [7, 24, 371];
    for (const { name, backend } of (await testBackends()).filter((found) => !withUnits.includes(found)))
      await scopeAsync(async () => {
        const hidden = fromArray(backend, normals(1, T * C), [T, C]);
        const weight = fromArray(backend, normals(2, V * C), [V, C]);
        const panels = empty(backend, panelShape(V, C));
        packPanels(weight, panels);
        const ids = someTargets(T, V);
        const { values: before } = await scoresOf(backend, hidden, { kind: "tensor", tensor: weight, panels }, ids);
        const { values } = await scoresOf(backend, hidden, withHalf(weight), ids);
        values.forEach((found, i) => void sameBits(`${name}: ${i}`, found, before[i]));
      });
  });

  test("refuses copies of another shape", async () => {
    await scopeAsync(async () => {
      const of = (...shape: number[]): Tensor => empty(reference, shape, "f64");
      const [hidden, weight] = [of(2, 8), of(16, 8)];
      const ids = empty(reference, [2], "u32");
      const mixed = (rows: Tensor, panels: Tensor) => () =>
        mixedHeadOp({ hidden, weight, rows, panels, targets: ids }, { temperature: 1 });
      await throwsMessage(mixed(of(15, 8), of(2, 8, 8)), "head: f16 rows: expected [16,8], got [15,8]");
      await throwsMessage(mixed(of(16, 8), of(1, 8, 8)), "head: f16 panels: expected [2,8,8], got [1,8,8]");
    });
  });

  if (withUnits.length === 0) {
    test.skip("on matrix units", `${whole.description} has no matrix units for f16 operands`);
    return;
  }

  // Forward: logits of rounded operands differ from float64 by the rounding of their sums alone, at most C · 2⁻²³ of
  // their size (below 20), as in linear.test.ts: 12 · 2⁻²³ · 20 = 3e-5, doubled by exp. Gradients: those of logits are
  // rounded to f16, at most the unit roundoff 2⁻¹¹ of each term of their sums: within 2⁻¹¹ of Σ |terms|; terms of one
  // sign dominate (the targets'), so that is at most twice the scale: 2⁻¹⁰ = 1e-3. A gradient below 2⁻¹⁴ (probabilities
  // of a vocabulary of thousands) is a subnormal f16, off by up to 2⁻²⁵, or flushed on some devices, off by 2⁻¹⁴: times
  // √V of them, of sizes near 1, of either sign.
  const tolerance = {
    forward: { ofScale: 6e-5, absolute: 6e-5 },
    gradient: { ofScale: 2e-3, absolute: 1e-4 },
  };
  checkOp(test, headOp, {
    settings: { temperature: 1 },
    cases: {
      "no rows": inputs(0, 5, 8),
      "one row": inputs(1, 1, 2),
      "a row too much for a panel": inputs(3, 4, 9),
      "tiny vocabulary": inputs(70, 4, 371),
      "prime sizes": { inputs: inputs(3, 7, 389), settings: { temperature: 0.7 } },
      "several blocks": { inputs: inputs(3, 3, 2 * blockColumns + 3), settings: { temperature: 1.3 } },
      "rows and columns in chunks": {
        inputs: inputs(5, 3, 2 * blockColumns + 3),
        settings: { temperature: 1, rowChunk: 2, columnChunk: blockColumns },
      },
    },
    tolerance: { forward: { ofScale: 2e-5, absolute: 2e-6 }, gradient: { ofScale: 2e-5, absolute: 2e-6 } },
    half: {
      operands: ["hidden", "weight"],
      run: ({ hidden, weight, targets: ids }, settings) => ({
        ...mixedHeadOp(
          { hidden: given(hidden), weight: given(weight), ...halfCopies(given(weight)), targets: given(ids) },
          settings,
        ),
      }),
      tolerance,
    },
  });

  checkOp(test, klDivergenceOp, {
    settings: { temperature: 1 },
    cases: {
      "one block": {
        ...sideP(3, 4, 37),
        hiddenQ: [3, 4],
        headQ: [37, 4],
      },
      "two blocks": {
        ...sideP(2, 3, blockColumns + 5),
        hiddenQ: [2, 3],
        headQ: [blockColumns + 5, 3],
      },
    },
    tolerance: { forward: { ofScale: 2e-5, absolute: 2e-6 }, gradient: { ofScale: 2e-5, absolute: 2e-6 } },
    half: {
      operands: ["hiddenP", "headP", "hiddenQ", "headQ"],
      run: ({ hiddenP, headP, logSumExpP, hiddenQ, headQ }, settings) => {
        const [p, q] = [halfCopies(given(headP)), halfCopies(given(headQ))];
        const copies = { rowsP: p.rows, panelsP: p.panels, rowsQ: q.rows, panelsQ: q.panels };
        return {
          ...mixedKlDivergenceOp(
            {
              hiddenP: given(hiddenP),
              headP: given(headP),
              logSumExpP: given(logSumExpP),
              hiddenQ: given(hiddenQ),
              headQ: given(headQ),
              ...copies,
            },
            settings,
          ),
        };
      },
      tolerance,
    },
  });

  test("KL(p ‖ p) is exactly 0, and a row's scores have the same bits alone and among 500", async () => {
    const [T, C] = [500, 64];
    for (const V of [371, 2 * blockColumns + 76])
      for (const { name, backend } of withUnits)
        await scopeAsync(async () => {
          const hidden = fromArray(backend, normals(1, T * C, 0.5), [T, C]);
          const weight = withHalf(fromArray(backend, normals(2, V * C, 0.5), [V, C]));
          const ids = someTargets(T, V);
          const all = await scoresOf(backend, hidden, weight, ids);
          for (const [start, count] of [
            [0, 1],
            [77, 1],
            [499, 1],
            [64, 64],
            [128, 37],
          ]) {
            const states = fromArray(backend, normals(1, T * C, 0.5).subarray(start * C, (start + count) * C), [
              count,
              C,
            ]);
            const alone = await scoresOf(backend, states, weight, ids.slice(start, start + count));
            alone.values.forEach((found, i) => {
              sameBits(`${name}: V ${V}: rows from ${start}: ${i}`, found, all.values[i].slice(start, start + count));
            });
            const { kl, logProbs } = klAndScore({
              hiddenQ: states,
              headQ: weight,
              rows: null,
              hiddenP: hidden.sliceRows(start, count),
              headP: weight,
              logSumExpP: all.logSumExp.sliceRows(start, count),
              targets: alone.tokens,
              temperature: 0.8,
            });
            const [divergences, scored] = await readTensors([kl, logProbs]);
            assert.deepEqual([...divergences], new Array(count).fill(0), `${name}: V ${V}: rows from ${start}`);
            const ratios = [...scored].map((logProb, i) => Math.exp(logProb - all.values[0][start + i]));
            assert.deepEqual(ratios, new Array(count).fill(1), `${name}: V ${V}: ratios of rows from ${start}`);
          }
        });
  });

  test("a hidden state that overflows f16 gives scores that are not finite, and no other row's", async () => {
    const [T, C, V] = [9, 16, 371];
    for (const { name, backend } of withUnits)
      await scopeAsync(async () => {
        const states = normals(1, T * C);
        states[4 * C + 3] = 1e5;
        const weight = withHalf(fromArray(backend, normals(2, V * C), [V, C]));
        const hidden = fromArray(backend, states, [T, C]);
        const { values } = await scoresOf(backend, hidden, weight, someTargets(T, V));
        values[0].forEach((logProb, row) => {
          assert.equal(Number.isFinite(logProb), row !== 4, `${name}: row ${row}: ${logProb}`);
        });
      });
  });
});

/** P's inputs, of numbers that f16 holds, with their log-sum-exp in float64. */
function sideP(T: number, C: number, V: number) {
  const round = (values: Float64Array): Float64Array => values.map((value) => f16ToF32(f32ToF16(value)));
  const [hidden, weight] = [round(normals(11, T * C)), round(normals(12, V * C))];
  const values = Float64Array.from({ length: T }, (_, t) => {
    let sum = 0;
    for (let v = 0; v < V; v++) {
      let logit = 0;
      for (let c = 0; c < C; c++) logit += hidden[t * C + c] * weight[v * C + c];
      sum += Math.exp(logit);
    }
    return Math.log(sum);
  });
  return {
    hiddenP: { shape: [T, C], values: hidden },
    headP: { shape: [V, C], values: weight },
    logSumExpP: { shape: [T], values },
  };
}
