import * as assert from "uvu/assert";
import { noGradient } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { head } from "../../../../engine/ops/head/head.ts";
import { klAndScore, klDivergenceOp } from "../../../../engine/ops/head/kl-divergence.ts";
import { blockColumns, type ChunkSettings } from "../../../../engine/ops/head/logits.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import type { Parameter, RowGroup } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors, type Tensor } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, type InputSpec, normals, sameBits } from "../../check-op.ts";
import { checkKnownOps } from "../known-ops.ts";

interface Side {
  hidden: ArrayLike<number>;
  head: ArrayLike<number>;
}

/** Both sides normal; Q near P where `distance` is small. */
function sides(T: number, C: number, V: number, distance = 1): { p: Side; q: Side } {
  const p = { hidden: normals(1, T * C), head: normals(2, V * C) };
  const moved = (values: Float64Array, seed: number) =>
    values.map((v, i) => Math.fround(v + distance * normals(seed, values.length)[i]));
  return {
    p,
    q:
      distance < 0.1
        ? { hidden: moved(p.hidden, 3), head: moved(p.head, 4) }
        : { hidden: normals(3, T * C), head: normals(4, V * C) },
  };
}

/** ln Σ_v e^(hidden·head[v] / τ) of each row, by plain loops. */
function logSumExps(T: number, C: number, V: number, { hidden, head: weight }: Side, temperature: number): number[] {
  return Array.from({ length: T }, (_, t) => {
    const z = Array.from({ length: V }, (_, v) => {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += hidden[t * C + c] * weight[v * C + c];
      return sum / temperature;
    });
    const largest = Math.max(...z);
    return largest + Math.log(z.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  });
}

function inputs(
  T: number,
  C: number,
  V: number,
  temperature = 1,
): Record<"hiddenP" | "headP" | "logSumExpP" | "hiddenQ" | "headQ", InputSpec> {
  const { p, q } = sides(T, C, V);
  return {
    hiddenP: { shape: [T, C], values: p.hidden },
    headP: { shape: [V, C], values: p.head },
    logSumExpP: { shape: [T], values: logSumExps(T, C, V, p, temperature) },
    hiddenQ: { shape: [T, C], values: q.hidden },
    headQ: { shape: [V, C], values: q.head },
  };
}

describe("engine/ops/head/kl-divergence", (test) => {
  checkOp(test, klDivergenceOp, {
    settings: { temperature: 1 },
    cases: {
      "one token to choose from": inputs(2, 3, 1),
      "no rows": inputs(0, 3, 8),
      "a panel": inputs(5, 3, 8),
      "a row too much for a panel": inputs(3, 4, 9),
      "one block": inputs(2, 2, blockColumns),
      "one column more": inputs(2, 2, blockColumns + 1),
      "prime sizes": { inputs: inputs(3, 5, 389, 0.7), settings: { temperature: 0.7 } },
      "several blocks": inputs(3, 3, 4 * blockColumns + 3),
      "rows and columns in chunks": {
        inputs: inputs(5, 3, 4 * blockColumns + 3),
        settings: { temperature: 1, rowChunk: 2, columnChunk: blockColumns },
      },
    },
    // As the head's: logits of at most 20 err by 1e-6 each, and so do both logs of probabilities.
    tolerance: { forward: { ofScale: 2e-5, absolute: 2e-6 }, gradient: { ofScale: 2e-5, absolute: 2e-6 } },
  });

  checkKnownOps(test, "kl", ({ hiddenP, headP, hiddenQ, headQ }, one, backend) => {
    const temperature = Number(one["temperature"]);
    const { logSumExpP } = noGradient(() => scoredP(backend, hiddenP, headP, temperature));
    return { kl: klDivergenceOp({ hiddenP, headP, logSumExpP, hiddenQ, headQ }, { temperature }).kl };
  });

  test("small divergences keep their digits", async () => {
    const [T, C, V, temperature] = [5, 8, 371, 1];
    for (const distance of [1e-2, 1e-3, 1e-4]) {
      const { p, q } = sides(T, C, V, distance);
      const truth = await compare(reference, "f64", [T, C, V], p, q, temperature);
      for (const { name, backend } of await testBackends()) {
        const { kl } = await compare(backend, "f32", [T, C, V], p, q, temperature);
        // d is the difference of two logs that err by some 1e-6 each, and a term grows as its square.
        assertClose(`${name}: distance ${distance}`, kl, truth.kl, { relative: 2e-6 / distance });
        assert.ok(kl.every((value) => value > 0));
      }
    }
  });

  test("exactly 0 where q is p, bit for bit", async () => {
    for (const [T, C, V] of [
      [70, 6, 371],
      [3, 4, 4 * blockColumns + 3],
    ]) {
      const { p } = sides(T, C, V);
      for (const { name, backend } of await testBackends())
        for (const chunks of [{}, { rowChunk: 2, columnChunk: blockColumns }]) {
          const { kl } = await compare(backend, "f32", [T, C, V], p, p, 0.7, chunks);
          sameBits(name, kl, new Float32Array(T));
        }
    }
  });

  test("far apart: neither negative nor infinite", async () => {
    const [T, C, V] = [4, 3, 371];
    const scaled = (values: ArrayLike<number>, factor: number) => Array.from(values, (v) => v * factor);
    const { p, q } = sides(T, C, V);
    const far = { hidden: scaled(q.hidden, 40), head: q.head };
    const near = { hidden: scaled(p.hidden, 40), head: p.head };
    const truth = await compare(reference, "f64", [T, C, V], near, far, 1);
    for (const { name, backend } of await testBackends()) {
      const { kl } = await compare(backend, "f32", [T, C, V], near, far, 1);
      assertClose(name, kl, truth.kl, { relative: 1e-5 });
      assert.ok(kl.every((value) => value >= 0 && value < 1e4));
    }
  });

  test("klAndScore says of Q what head says, bit for bit, and what klDivergence says; also in chunks", async () => {
    for (const [T, C, V] of [
      [70, 6, 371],
      [5, 4, 4 * blockColumns + 3],
    ]) {
      const { p, q } = sides(T, C, V);
      for (const { name, backend } of await testBackends())
        await scopeAsync(async () => {
          const hidden = fromArray(backend, q.hidden, [T, C]);
          const weight = fromArray(backend, q.head, [V, C]);
          const tokens = fromArray(backend, targetsOf(T, V), [T], "u32");
          const scores = head(
            hidden,
            { kind: "tensor", tensor: weight, panels: null },
            tokens,
            { temperature: 0.7 },
            null,
          );
          const hiddenP = fromArray(backend, p.hidden, [T, C]);
          const headP = fromArray(backend, p.head, [V, C]);
          const { logSumExpP } = scoredP(backend, hiddenP, headP, 0.7);
          const { kl } = klDivergenceOp(
            { hiddenP, headP, logSumExpP, hiddenQ: hidden, headQ: weight },
            { temperature: 0.7 },
          );
          const expected = await readTensors([scores.logProbs, scores.entropy, scores.logSumExp, kl]);
          for (const chunks of [{}, { rowChunk: 2 }, { rowChunk: 64, columnChunk: 2 * blockColumns }]) {
            const found = await compare(backend, "f32", [T, C, V], p, q, 0.7, chunks);
            ["logProbs", "entropy", "logSumExp", "kl"].forEach((part, i) => {
              sameBits(`${name}: ${part}`, found[part as keyof typeof found], expected[i]);
            });
          }
        });
    }
  });

  test("Q perturbed: rows of several grid points as each alone", async () => {
    const [C, V] = [5, 371];
    const groups: RowGroup[] = [
      { start: 0, count: 3, point: 1 },
      { start: 3, count: 4, point: 0 },
    ];
    const T = 7;
    const { p, q } = sides(T, C, V);
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const slots = new Map(
          [0, 1].map((point) => {
            const panels = empty(backend, panelShape(V, C));
            packPanels(fromArray(backend, normals(10 + point, V * C), [V, C]), panels);
            return [point, { rows: null, panels }];
          }),
        );
        const headQ: Parameter = { kind: "slots", shape: [V, C], slots };
        const hiddenP = fromArray(backend, p.hidden, [T, C]);
        const tensor = fromArray(backend, p.head, [V, C]);
        const { logSumExpP } = scoredP(backend, hiddenP, tensor, 1);
        const together = klAndScore({
          hiddenQ: fromArray(backend, q.hidden, [T, C]),
          headQ,
          rows: groups,
          hiddenP,
          headP: { kind: "tensor", tensor, panels: null },
          logSumExpP,
          targets: fromArray(backend, targetsOf(T, V), [T], "u32"),
          temperature: 1,
        });
        const found = await together.kl.read();
        for (const { start, count, point } of groups) {
          const rowsOf = (values: ArrayLike<number>) => Array.from(values).slice(start * C, (start + count) * C);
          const own = await compare(
            backend,
            "f32",
            [count, C, V],
            { hidden: rowsOf(p.hidden), head: p.head },
            { hidden: rowsOf(q.hidden), head: normals(10 + point, V * C) },
            1,
          );
          sameBits(`${name}: point ${point}`, found.slice(start, start + count), own.kl);
        }
      });
  });

  test("rows of Q that share rows of P, and several targets after a row: the bits of rows of their own; also in chunks", async () => {
    const [T, S, C] = [80, 30, 6];
    const rowOfP = Uint32Array.from({ length: T }, (_, t) => (t * 7 + (t % 4)) % S);
    const rowOfTarget = Uint32Array.from({ length: 130 }, (_, n) => (n * 11) % (T - 3));
    const rows = (values: ArrayLike<number>, places: Uint32Array): number[] =>
      [...places].flatMap((row) => Array.from(values).slice(row * C, (row + 1) * C));
    for (const V of [371, 2 * blockColumns + 3]) {
      const [p, q] = [sides(S, C, V).p, sides(T, C, V).q];
      const targets = targetsOf(rowOfTarget.length, V);
      for (const { name, backend } of await testBackends()) {
        // A software driver maps each buffer by itself, and a process may have only so many maps.
        if (V > 371 && name.includes("segments")) continue;
        for (const chunks of [{}, { rowChunk: 64, columnChunk: blockColumns }]) {
          const together = await compare(backend, "f32", [T, C, V], p, q, 0.7, chunks, {
            targets,
            rowOfP,
            rowOfTarget,
          });
          const ofP = { hidden: rows(p.hidden, rowOfP), head: p.head };
          const apart = await compare(backend, "f32", [T, C, V], ofP, q, 0.7, chunks);
          for (const part of ["entropy", "logSumExp", "kl"] as const)
            sameBits(`${name}: ${part}`, together[part], apart[part]);
          const each = await compare(
            backend,
            "f32",
            [rowOfTarget.length, C, V],
            { hidden: rows(ofP.hidden, rowOfTarget), head: p.head },
            { hidden: rows(q.hidden, rowOfTarget), head: q.head },
            0.7,
          );
          sameBits(`${name}: logProbs`, together.logProbs, each.logProbs);
        }
      }
    }
    const [p, q] = [sides(3, C, 371).p, sides(2, C, 371).q];
    const wrong = { targets: [1, 2], rowOfP: Uint32Array.of(0, 3), rowOfTarget: Uint32Array.of(0, 1) };
    await throwsMessage(() => compare(reference, "f64", [2, C, 371], p, q, 1, {}, wrong), "rowOfP: row 3", "below 3");
    const few = { ...wrong, rowOfP: Uint32Array.of(0) };
    await throwsMessage(
      () => compare(reference, "f64", [2, C, 371], p, q, 1, {}, few),
      "rowOfP: expected 2 rows, got 1",
    );
    const beyond = { ...wrong, rowOfP: Uint32Array.of(0, 1), rowOfTarget: Uint32Array.of(0, 2) };
    await throwsMessage(() => compare(reference, "f64", [2, C, 371], p, q, 1, {}, beyond), "rowOfTarget: row 2");
  });

  test("refuses what does not go together", async () => {
    const shapes = { hiddenP: [2, 3], headP: [5, 3], logSumExpP: [2], hiddenQ: [2, 4], headQ: [5, 4] };
    const check = (other: Partial<typeof shapes>, temperature = 1) =>
      klDivergenceOp.definition.shapes({ ...shapes, ...other }, { temperature });
    check({});
    await throwsMessage(() => check({ headP: [6, 3] }), "klDivergence: headP: expected [5,3], got [6,3]");
    await throwsMessage(() => check({ hiddenP: [3, 3] }), "klDivergence: hiddenP: expected [2,3], got [3,3]");
    await throwsMessage(() => check({ logSumExpP: [1] }), "klDivergence: logSumExpP: expected [2], got [1]");
    await throwsMessage(() => check({}, -1), "temperature: expected a number from 0.00001 on, got -1");
  });
});

function targetsOf(T: number, V: number): number[] {
  return Array.from({ length: T }, (_, t) => (t * 97) % V);
}

function scoredP(backend: Backend, hidden: Tensor, weight: Tensor, temperature: number): { logSumExpP: Tensor } {
  const targets = fromArray(backend, new Array(hidden.rows).fill(0), [hidden.rows], "u32");
  return {
    logSumExpP: head(hidden, { kind: "tensor", tensor: weight, panels: null }, targets, { temperature }, null)
      .logSumExp,
  };
}

/** klAndScore of two plain sides, P scored by `head` before. */
async function compare(
  backend: Backend,
  dtype: "f32" | "f64",
  [T, C, V]: readonly number[],
  p: Side,
  q: Side,
  temperature: number,
  chunks: ChunkSettings = {},
  shared: { targets: readonly number[]; rowOfP: Uint32Array; rowOfTarget: Uint32Array } | null = null,
): Promise<Record<"logProbs" | "entropy" | "logSumExp" | "kl", Float64Array | Float32Array>> {
  const before = backend.statistics().liveBuffers;
  const result = await scopeAsync(async () => {
    const plain = (values: ArrayLike<number>): Parameter & { kind: "tensor" } => ({
      kind: "tensor",
      tensor: fromArray(backend, values, [V, C], dtype),
      panels: null,
    });
    const hiddenP = fromArray(backend, p.hidden, [p.hidden.length / C, C], dtype);
    const headP = plain(p.head);
    const { logSumExpP } = scoredP(backend, hiddenP, headP.tensor, temperature);
    const found = klAndScore(
      {
        hiddenQ: fromArray(backend, q.hidden, [T, C], dtype),
        headQ: plain(q.head),
        rows: null,
        hiddenP,
        headP,
        logSumExpP,
        temperature,
        ...(shared === null
          ? { targets: fromArray(backend, targetsOf(T, V), [T], "u32") }
          : { ...shared, targets: fromArray(backend, shared.targets, [shared.targets.length], "u32") }),
      },
      chunks,
    );
    const read = await readTensors([found.logProbs, found.entropy, found.logSumExp, found.kl]);
    const [logProbs, entropy, logSumExp, kl] = read.map((values) =>
      dtype === "f64" ? Float64Array.from(values) : Float32Array.from(values),
    );
    return { logProbs, entropy, logSumExp, kl };
  });
  assert.is(backend.statistics().liveBuffers, before, "buffers left behind");
  return result;
}
