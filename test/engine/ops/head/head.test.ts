import * as assert from "uvu/assert";
import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { type HeadSettings, head, headOp } from "../../../../engine/ops/head/head.ts";
import { blockColumns, cutIntoChunks } from "../../../../engine/ops/head/logits.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import type { Parameter, RowGroup, WeightTensors } from "../../../../engine/parameters.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { empty, fromArray, readTensors } from "../../../../engine/tensor.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals, sameBits } from "../../check-op.ts";
import { checkKnownOps } from "../known-ops.ts";

/** Token numbers below V: the last, the first, and some between. */
const someTargets = (T: number, V: number): number[] =>
  Array.from({ length: T }, (_, t) => (t === 0 ? V - 1 : (t - 1) * 97) % V);
const targets = (T: number, V: number) => ({ shape: [T], values: someTargets(T, V), dtype: "u32" }) as const;
const inputs = (T: number, C: number, V: number) => ({ hidden: [T, C], weight: [V, C], targets: targets(T, V) });

describe("engine/ops/head/head", (test) => {
  checkOp(test, headOp, {
    settings: { temperature: 1 },
    cases: {
      "one token to choose from": inputs(2, 3, 1),
      "no rows": inputs(0, 5, 8),
      "one row": inputs(1, 1, 2),
      "tiny logits": {
        inputs: {
          hidden: { shape: [3, 7], scale: 1e-10 },
          weight: { shape: [41, 7], scale: 1e-10 },
          targets: targets(3, 41),
        },
      },
      "a panel": inputs(5, 3, 8),
      "a row too much for a panel": inputs(3, 4, 9),
      "tiny vocabulary": inputs(70, 4, 371),
      "prime sizes": { inputs: inputs(3, 7, 389), settings: { temperature: 0.7 } },
      "one block": inputs(2, 2, blockColumns),
      "one column more": inputs(2, 2, blockColumns + 1),
      "several blocks": { inputs: inputs(3, 3, 4 * blockColumns + 3), settings: { temperature: 1.3 } },
      "rows and columns in chunks": {
        inputs: inputs(5, 3, 4 * blockColumns + 3),
        settings: { temperature: 1, rowChunk: 2, columnChunk: blockColumns },
      },
    },
    // A logit of C products errs by C·2⁻²⁴ of its size, at most 20 here: 1e-5 in what are logs of probabilities; exp doubles it.
    tolerance: { forward: { ofScale: 2e-5, absolute: 2e-6 }, gradient: { ofScale: 2e-5, absolute: 2e-6 } },
  });

  checkKnownOps(test, "head", ({ hidden, head: weight }, { targets: ids, temperature }, backend) => {
    const known = Array.isArray(ids) ? ids.map(Number) : [];
    const tokens = fromArray(backend, known, [known.length], "u32");
    const scores = head(
      hidden,
      { kind: "tensor", tensor: weight, panels: null },
      tokens,
      { temperature: Number(temperature) },
      null,
    );
    return { ...scores };
  });

  test("huge logits lose no more than their own rounding", async () => {
    const [T, C, V] = [3, 4, 389];
    const hidden = { shape: [T, C], values: normals(1, T * C, 60) };
    const weight = { shape: [V, C], values: normals(2, V * C, 20) };
    const seeds = { logProbs: normals(3, T), entropy: normals(4, T) };
    const given = { hidden, weight, seeds };
    const truth = await forwardAndBackward(reference, "f64", given, someTargets(T, V), { temperature: 0.5 });
    const largest = Math.max(...Array.from(truth[2]));
    assert.ok(largest > 5000, `largest log-sum-exp ${largest}`);
    for (const { name, backend } of await testBackends()) {
      const found = await forwardAndBackward(backend, "f32", given, someTargets(T, V), { temperature: 0.5 });
      // Logits near 10⁴ are multiples of 2⁻¹⁰: probabilities near 1 or 0 hardly move, their logs by that much.
      ["logProbs", "entropy", "logSumExp", "dhidden", "dweight"].forEach((part, i) => {
        assertClose(`${name}: ${part}`, found[i], truth[i], { ofScale: 2e-6, absolute: 2e-3 });
      });
    }
  });

  test("Qwen2.5's vocabulary", async () => {
    const [T, C, V] = [3, 4, 151936];
    const given = {
      hidden: { shape: [T, C], values: normals(1, T * C) },
      weight: { shape: [V, C], values: normals(2, V * C) },
      seeds: { logProbs: normals(3, T), entropy: normals(4, T) },
    };
    const truth = await forwardAndBackward(reference, "f64", given, someTargets(T, V), { temperature: 1 });
    for (const { name, backend } of await testBackends()) {
      const found = await forwardAndBackward(backend, "f32", given, someTargets(T, V), { temperature: 1 });
      ["logProbs", "entropy", "logSumExp", "dhidden", "dweight"].forEach((part, i) => {
        assertClose(`${name}: ${part}`, found[i], truth[i], { ofScale: 2e-5, absolute: 2e-6 });
      });
    }
  });

  test("a row's scores do not depend on the rows around it, nor on how the work is cut: the same bits", async () => {
    const [T, C, V] = [9, 5, 4 * blockColumns + 3];
    const hidden = normals(1, T * C);
    const weight = normals(2, V * C);
    const ids = someTargets(T, V);
    for (const { backend, name } of await testBackends()) {
      const scoreRows = (order: readonly number[], settings: HeadSettings): Promise<Float32Array[]> =>
        scopeAsync(async () => {
          const scores = head(
            fromArray(
              backend,
              order.flatMap((t) => [...hidden.subarray(t * C, (t + 1) * C)]),
              [order.length, C],
            ),
            { kind: "tensor", tensor: fromArray(backend, weight, [V, C]), panels: null },
            fromArray(
              backend,
              order.map((t) => ids[t]),
              [order.length],
              "u32",
            ),
            settings,
            null,
          );
          const read = await readTensors([scores.logProbs, scores.entropy, scores.logSumExp]);
          return read.map((values) => Float32Array.from(values));
        });
      const all = Array.from({ length: T }, (_, t) => t);
      const whole = await scoreRows(all, { temperature: 0.7 });
      const cut = await scoreRows(all, { temperature: 0.7, rowChunk: 4, columnChunk: 2 * blockColumns });
      whole.forEach((values, i) => {
        sameBits(`${name}: in chunks`, cut[i], values);
      });
      const shuffled = [4, 8, 0, 3];
      const some = await scoreRows(shuffled, { temperature: 0.7 });
      some.forEach((values, i) => {
        sameBits(
          `${name}: shuffled`,
          values,
          Float32Array.from(shuffled, (t) => whole[i][t]),
        );
      });
    }
  });

  test("rows of several grid points read their own weights: the same bits as each point alone", async () => {
    const [C, V] = [6, 371];
    const groups: RowGroup[] = [
      { start: 0, count: 3, point: 5 },
      { start: 3, count: 70, point: 2 },
      { start: 73, count: 1, point: 5 },
    ];
    const T = 74;
    const hidden = normals(1, T * C);
    for (const { backend, name } of await testBackends())
      await scopeAsync(async () => {
        const slots = new Map<number, WeightTensors>(
          [2, 5].map((point) => {
            const rows = fromArray(backend, normals(point, V * C), [V, C]);
            const panels = empty(backend, panelShape(V, C));
            packPanels(rows, panels);
            // One with the forward copy alone, one without it.
            return [point, point === 2 ? { rows: null, panels } : { rows, panels: null }];
          }),
        );
        const perturbed: Parameter = { kind: "slots", shape: [V, C], slots };
        const ids = someTargets(T, V);
        const x = fromArray(backend, hidden, [T, C]);
        const tokens = fromArray(backend, ids, [T], "u32");
        const together = await head(x, perturbed, tokens, { temperature: 1, rowChunk: 64 }, groups).logProbs.read();
        for (const { start, count, point } of groups) {
          const tensor = fromArray(backend, normals(point, V * C), [V, C]);
          const own = fromArray(backend, hidden.subarray(start * C, (start + count) * C), [count, C]);
          const ownTokens = fromArray(backend, ids.slice(start, start + count), [count], "u32");
          const alone = await head(
            own,
            { kind: "tensor", tensor, panels: null },
            ownTokens,
            { temperature: 1 },
            null,
          ).logProbs.read();
          sameBits(`${name}: point ${point}`, together.slice(start, start + count), alone);
        }
        x.requiresGradient = true;
        await throwsMessage(
          () => record(() => head(x, perturbed, tokens, { temperature: 1 }, groups)),
          "perturbed weights have no gradient",
        );
      });
  });

  test("a target outside the vocabulary gives NaN, and harms no other row", async () => {
    for (const { backend, name } of await testBackends())
      await scopeAsync(async () => {
        const weight: Parameter = {
          kind: "tensor",
          tensor: fromArray(backend, normals(2, 371 * 4), [371, 4]),
          panels: null,
        };
        const hidden = fromArray(backend, normals(1, 3 * 4), [3, 4]);
        const tokens = fromArray(backend, [370, 371, 0], [3], "u32");
        const logProbs = await head(hidden, weight, tokens, { temperature: 1 }, null).logProbs.read();
        assert.equal([...logProbs].map(Number.isNaN), [false, true, false], name);
      });
  });

  test("NaN logits give NaN scores, and harm no other row", async () => {
    // Four neighbouring columns: the case in which a driver's max, exp and log together gave a finite log-probability.
    for (const bad of [[4], [4, 5, 6, 7], [0, 39], Array.from({ length: 40 }, (_, i) => i)])
      for (const { backend, name } of await testBackends())
        await scopeAsync(async () => {
          const values = normals(2, 40);
          for (const column of bad) values[column] = Number.NaN;
          const weight: Parameter = { kind: "tensor", tensor: fromArray(backend, values, [40, 1]), panels: null };
          const hidden = fromArray(backend, [1, 2], [2, 1]);
          const tokens = fromArray(backend, [2, 8], [2], "u32");
          const { logProbs, entropy } = head(hidden, weight, tokens, { temperature: 1 }, null);
          for (const values of [await logProbs.read(), await entropy.read()])
            assert.equal([...values].map(Number.isNaN), [true, true], `${name}: columns ${bad}: ${values}`);
        });
  });

  test("refuses what does not go together", async () => {
    const shapes = (hidden: number[], weight: number[], ids: number[], settings: HeadSettings) =>
      headOp.definition.shapes({ hidden, weight, panels: panelShape(weight[0], weight[1]), targets: ids }, settings);
    await throwsMessage(
      () => shapes([2, 3], [5, 4], [2], { temperature: 1 }),
      "head: weight: expected [5,3], got [5,4]",
    );
    await throwsMessage(() => shapes([2, 3], [5, 3], [3], { temperature: 1 }), "head: targets: expected [2], got [3]");
    await throwsMessage(
      () => shapes([2, 3], [5, 3], [2], { temperature: 0 }),
      "temperature: expected a number from 0.00001 on, got 0",
    );
    await throwsMessage(() => shapes([2, 3], [5, 3], [2], { temperature: 1e-39 }), "from 0.00001 on, got 1e-39");
    await throwsMessage(
      () => cutIntoChunks(reference, 1, 5, "f32", { columnChunk: 8 }),
      "expected a multiple of 1024, got 8",
    );
  });

  test("chunks cover rows and columns once, within 16 MiB and the buffer limit", () => {
    for (const maxBufferBytes of [16384, 16640, 128 * 2 ** 20])
      for (const [T, V] of [
        [0, 1],
        [1, 371],
        [9000, 371],
        [100000, 371],
        [3000, 151936],
      ]) {
        const { rowChunks, columnChunks } = cutIntoChunks(
          { limits: { maxBufferBytes, segmentAlignment: 256 } },
          T,
          V,
          "f32",
        );
        for (const [chunks, total] of [
          [rowChunks, T],
          [columnChunks, V],
        ] as const) {
          let next = 0;
          for (const { start, count } of chunks) {
            assert.is(start, next);
            next += count;
          }
          assert.is(next, total);
        }
        const width = columnChunks[0].count * 4;
        assert.ok(width <= maxBufferBytes && rowChunks[0].count * width <= 16 * 2 ** 20);
        if (V === 371) assert.is(columnChunks.length, 1);
      }
  });
});

interface Given {
  shape: readonly number[];
  values: ArrayLike<number>;
}

/** logProbs, entropy, logSumExp, dHidden, dWeight. */
function forwardAndBackward(
  backend: Backend,
  dtype: "f32" | "f64",
  {
    hidden,
    weight,
    seeds,
  }: { hidden: Given; weight: Given; seeds: { logProbs: ArrayLike<number>; entropy: ArrayLike<number> } },
  ids: readonly number[],
  settings: HeadSettings,
): Promise<ArrayLike<number>[]> {
  return scopeAsync(async () => {
    const x = fromArray(backend, hidden.values, hidden.shape, dtype);
    const w = fromArray(backend, weight.values, weight.shape, dtype);
    const panels = empty(backend, panelShape(weight.shape[0], weight.shape[1]), dtype);
    packPanels(w, panels);
    x.requiresGradient = true;
    w.requiresGradient = true;
    const tokens = fromArray(backend, ids, [ids.length], "u32");
    const recording = record(() => head(x, { kind: "tensor", tensor: w, panels }, tokens, settings, null));
    const gradients = new GradientMap([x, w]);
    const { logProbs, entropy, logSumExp } = recording.result;
    const seed = (values: ArrayLike<number>) => fromArray(backend, values, [ids.length], dtype);
    recording.backward(
      new Map([
        [logProbs, seed(seeds.logProbs)],
        [entropy, seed(seeds.entropy)],
      ]),
      gradients,
    );
    const [dx, dw] = [gradients.get(x), gradients.get(w)];
    if (dx === undefined || dw === undefined) throw new Error("no gradient");
    const read = await readTensors([logProbs, entropy, logSumExp, dx, dw]);
    gradients.free();
    return read;
  });
}
