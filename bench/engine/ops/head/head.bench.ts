// The language-model head with log-softmax: forward and gradients, 896 wide, for 64 tokens of a vocabulary of 32,768 (that of
// Qwen2.5-0.5B has 151,936: 17 GFLOP forward, and with panels and gradient 1.6 GB), and of the tiny model; and the divergence
// from a second head. Hidden states repeat every eight rows, so that the check needs eight softmaxes.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { headOp } from "../../../../engine/ops/head/head.ts";
import { klAndScore } from "../../../../engine/ops/head/kl-divergence.ts";
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import type { Parameter } from "../../../../engine/parameters.ts";
import { empty, fromArray, type Tensor } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, type Operand, operand, unit } from "../../../operands.ts";

type Size = readonly [T: number, C: number, V: number];
const period = 8;
const temperature = 0.8;

interface Head {
  hidden: Tensor;
  hiddenAt: (place: number) => number;
  weight: Operand;
  parameter: Parameter;
  /** z of every id of a row, logits over the temperature, in float64; and their log-sum-exp. */
  scaledLogits: (row: number) => { z: Float64Array; logSumExp: number };
}

function makeHead(backend: Backend, [T, C, V]: Size, seed: number): Head {
  const hiddenAt = (place: number): number =>
    Math.fround(2 * unit((Math.floor(place / C) % period) * C + (place % C), seed) - 1);
  const hidden = fromArray(
    backend,
    Float32Array.from({ length: T * C }, (_, place) => hiddenAt(place)),
    [T, C],
  );
  const spread = 3 * C ** -0.5;
  const weight = operand(backend, [V, C], seed + 1, [-spread, spread]);
  const panels = empty(backend, panelShape(V, C));
  packPanels(weight.tensor, panels);
  const known = new Map<number, { z: Float64Array; logSumExp: number }>();
  const scaledLogits = (row: number) => {
    const found = known.get(row % period);
    if (found !== undefined) return found;
    const own = Float64Array.from({ length: C }, (_, c) => hiddenAt(row * C + c));
    const z = new Float64Array(V);
    for (let v = 0; v < V; v++) {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += own[c] * weight.at(v * C + c);
      z[v] = sum / temperature;
    }
    const logSumExp = Math.log(z.reduce((sum, value) => sum + Math.exp(value), 0));
    known.set(row % period, { z, logSumExp });
    return { z, logSumExp };
  };
  return { hidden, hiddenAt, weight, parameter: { kind: "tensor", tensor: weight.tensor, panels }, scaledLogits };
}

const targetOf = (row: number, V: number): number => Math.floor(unit(row % period, 90) * V);

function setUp(backend: Backend, size: Size, isBackward: boolean): BenchWork {
  const [T, C, V] = size;
  const { hidden, hiddenAt, weight, parameter, scaledLogits } = makeHead(backend, size, 1);
  const targets = fromArray(
    backend,
    Array.from({ length: T }, (_, row) => targetOf(row, V)),
    [T],
    "u32",
  );
  const panels = parameter.kind === "tensor" ? parameter.panels : null;
  const call = () => headOp({ hidden, weight: weight.tensor, panels, targets }, { temperature }).logProbs;
  const logProb = (row: number): number => {
    const { z, logSumExp } = scaledLogits(row);
    return z[targetOf(row, V)] - logSumExp;
  };
  if (!isBackward) return forwardWork(call, (logProbs) => expectSome("logProbs", logProbs, logProb));
  const upstream = operand(backend, [T], 5);
  const dLogits = (row: number, v: number): number => {
    const { z, logSumExp } = scaledLogits(row);
    const isTarget = targetOf(row, V) === v ? 1 : 0;
    return ((isTarget - Math.exp(z[v] - logSumExp)) * upstream.at(row)) / temperature;
  };
  return backwardWork({ hidden, weight: weight.tensor }, call, upstream.tensor, async (gradients) => {
    const dHidden = (i: number): number => {
      const [row, c] = [Math.floor(i / C), i % C];
      let sum = 0;
      for (let v = 0; v < V; v++) sum += dLogits(row, v) * weight.at(v * C + c);
      return sum;
    };
    await expectSome("dhidden", gradients.hidden, dHidden, 1e-4, 40);
    const dWeight = (i: number): number => {
      const [v, c] = [Math.floor(i / C), i % C];
      let sum = 0;
      for (let row = 0; row < T; row++) sum += dLogits(row, v) * hiddenAt(row * C + c);
      return sum;
    };
    await expectSome("dweight", gradients.weight, dWeight, 1e-4);
    for (let row = 0; row < period; row++) {
      const v = targetOf(row, V); // its gradient is thousands of times that of other ids
      await expectSome("dweight of a target", gradients.weight.sliceRows(v, 1), (c) => dWeight(v * C + c), 1e-4, 20);
    }
  });
}

function divergence(backend: Backend, size: Size): BenchWork {
  const [T, , V] = size;
  const [p, q] = [makeHead(backend, size, 1), makeHead(backend, size, 3)];
  const targets = fromArray(
    backend,
    Array.from({ length: T }, (_, row) => targetOf(row, V)),
    [T],
    "u32",
  );
  const logSumExpP = headOp(
    { hidden: p.hidden, weight: p.weight.tensor, panels: null, targets },
    { temperature },
  ).logSumExp;
  const comparison = {
    hiddenQ: q.hidden,
    headQ: q.parameter,
    rows: null,
    hiddenP: p.hidden,
    headP: p.parameter,
    logSumExpP,
    targets,
    temperature,
  };
  return forwardWork(
    () => klAndScore(comparison).kl,
    (kl) =>
      expectSome("kl", kl, (row) => {
        const [own, other] = [p.scaledLogits(row), q.scaledLogits(row)];
        let sum = 0;
        for (let v = 0; v < V; v++) {
          const logP = own.z[v] - own.logSumExp;
          sum += Math.exp(logP) * (logP - (other.z[v] - other.logSumExp));
        }
        return sum;
      }),
  );
}

const sizes: readonly { name: string; size: Size; heavy?: boolean; training?: boolean }[] = [
  { name: "64 tokens of 32,768 ids", size: [64, 896, 32_768], training: true },
  { name: "decode 1 row of 32,768 ids", size: [1, 896, 32_768] },
  { name: "decode 16 rows of 32,768 ids", size: [16, 896, 32_768] },
  { name: "64 tokens of 151,936 ids", size: [64, 896, 151_936], heavy: true },
  { name: "tiny, 448 tokens of 371 ids", size: [448, 64, 371], training: true },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, size, heavy, training = false }) => {
  const [T, C, V] = size;
  const forward = {
    name: `head forward ${name}`,
    flops: 2 * T * C * V,
    bytes: 4 * (V * C + T * C),
    heavy,
    setUp: (backend: Backend) => setUp(backend, size, false),
  };
  if (!training) return [forward];
  const backward = {
    ...forward,
    name: `head backward ${name}`,
    flops: 3 * forward.flops, // logits once more, and both products
    bytes: 4 * (3 * V * C + 2 * T * C),
    setUp: (backend: Backend) => setUp(backend, size, true),
  };
  const kl = {
    ...forward,
    name: `KL and score ${name}`,
    flops: 2 * forward.flops,
    bytes: 4 * 2 * (V * C + T * C),
    setUp: (backend: Backend) => divergence(backend, size),
  };
  return [forward, backward, kl];
});
