// The language-model head fused with log-softmax: one log-probability per row, its gradients, and the divergence from a
// second head. Hidden states repeat every few rows, so that the check needs few softmaxes over the vocabulary.
import {
  fromArray,
  head as headOf,
  klAndScore,
  type Parameter,
  ParameterArena,
  record,
  scope,
  type Tensor,
} from "../../engine/index.ts";
import { empty } from "../../engine/tensor.ts";
import { Numbers } from "./numbers.ts";
import { type Bench, type Case, type Measured, type PartOf, readRows, spread } from "./part.ts";

/** Distinct rows of hidden states. */
const period = 4;
const temperature = 0.8;
const tolerance = 1e-4;

interface Softmax {
  /** Logits over the temperature. */
  z: Float64Array;
  logSumExp: number;
}

/** A head with its hidden states, on the device and in float64. */
class Head {
  readonly arena: ParameterArena;
  readonly parameter: Parameter & { kind: "tensor" };
  readonly hidden: Tensor;
  readonly weights: Float32Array;
  readonly rowWeights: readonly Float32Array[];
  readonly #softmaxes = new Map<number, Softmax>();

  constructor(bench: Bench, rows: number, seed: number) {
    const { hidden: C, vocabulary: V } = bench.sizes.head;
    this.weights = new Numbers(seed, 3 * C ** -0.5).array(V * C);
    this.arena = new ParameterArena(bench.backend, new Map([["head", { shape: [V, C], forwardCopy: true }]]));
    this.arena.load("head", this.weights);
    this.arena.refreshCopies();
    const parameter = this.arena.get("head");
    if (parameter.kind !== "tensor") throw new Error("head: an arena holds plain tensors");
    this.parameter = parameter;
    const states = new Numbers(seed + 1).array(period * C);
    this.rowWeights = Array.from({ length: period }, (_, row) => states.subarray(row * C, (row + 1) * C));
    const all = new Float32Array(rows * C);
    for (let row = 0; row < rows; row++) all.set(this.rowWeights[row % period], row * C);
    this.hidden = fromArray(bench.backend, all, [rows, C]);
  }

  softmax(row: number): Softmax {
    const known = this.#softmaxes.get(row % period);
    if (known !== undefined) return known;
    const own = this.rowWeights[row % period];
    const z = new Float64Array(this.weights.length / own.length);
    let total = 0;
    for (let v = 0, at = 0; v < z.length; v++) {
      let sum = 0;
      for (let c = 0; c < own.length; c++) sum += own[c] * this.weights[at++];
      z[v] = sum / temperature;
      total += Math.exp(z[v]);
    }
    const made = { z, logSumExp: Math.log(total) };
    this.#softmaxes.set(row % period, made);
    return made;
  }
}

const targetOf = (row: number, V: number): number => ((row % period) * 7919 + 13) % V;

function targetsOf(bench: Bench, rows: number): Tensor {
  const { vocabulary: V } = bench.sizes.head;
  return fromArray(
    bench.backend,
    Uint32Array.from({ length: rows }, (_, row) => targetOf(row, V)),
    [rows],
    "u32",
  );
}

async function withHeads(
  bench: Bench,
  rows: number,
  count: number,
  body: (heads: readonly Head[]) => Promise<Measured>,
) {
  const heads = Array.from({ length: count }, (_, i) => new Head(bench, rows, 1 + 2 * i));
  try {
    return await body(heads);
  } finally {
    for (const one of heads) one.arena.free();
  }
}

function forward(bench: Bench, rows: number): Promise<Measured> {
  return withHeads(bench, rows, 1, async ([one]) => {
    const targets = targetsOf(bench, rows);
    const call = () => headOf(one.hidden, one.parameter, targets, { temperature });
    const time = await bench.time(() => scope(() => void call()));
    const expected = (row: number): number => {
      const { z, logSumExp } = one.softmax(row);
      return z[targetOf(row, z.length)] - logSumExp;
    };
    const found = await call().logProbs.read();
    const checked = bench.compare(
      "logProbs",
      found,
      Float64Array.from({ length: rows }, (_, row) => expected(row)),
      tolerance,
    );
    return { ...time, checked };
  });
}

function backward(bench: Bench, rows: number): Promise<Measured> {
  return withHeads(bench, rows, 1, async ([one]) => {
    const { backend } = bench;
    const { hidden: C, vocabulary: V } = bench.sizes.head;
    const upstream = new Numbers(9);
    const { hidden, parameter } = one;
    const leaves = [hidden, parameter.tensor];
    const targets = new Map(leaves.map((leaf) => [leaf, empty(backend, leaf.shape)]));
    for (const leaf of leaves) leaf.requiresGradient = true;
    const ids = targetsOf(bench, rows);
    const recording = record(() => headOf(hidden, parameter, ids, { temperature }).logProbs);
    const store = { target: (leaf: Tensor) => targets.get(leaf), has: () => false, mark: () => {} };
    const seeds = new Map([[recording.result, upstream.tensor(backend, [rows])]]);
    const time = await bench.time(() => recording.backward(seeds, store));

    const dLogit = (row: number, v: number): number => {
      const { z, logSumExp } = one.softmax(row);
      return (((targetOf(row, V) === v ? 1 : 0) - Math.exp(z[v] - logSumExp)) * upstream.at(row)) / temperature;
    };
    const target = (leaf: Tensor): Tensor => targets.get(leaf) ?? leaf;
    const found = { dHidden: [] as number[], dWeight: [] as number[], others: [] as number[] };
    const wanted = { dHidden: [] as number[], dWeight: [] as number[], others: [] as number[] };
    const columns = spread(C, 8);
    const hiddenRows = spread(rows, 2);
    for (const [i, values] of (await readRows(target(hidden), hiddenRows)).entries())
      for (const c of columns) {
        let sum = 0;
        for (let v = 0; v < V; v++) sum += dLogit(hiddenRows[i], v) * one.weights[v * C + c];
        found.dHidden.push(values[c]);
        wanted.dHidden.push(sum);
      }
    // The gradient of a target is thousands of times that of another id, so the two are compared separately.
    for (const [name, vs] of [
      ["dWeight", [targetOf(0, V), targetOf(1, V)]],
      ["others", [0, V - 1]],
    ] as const)
      for (const [i, values] of (await readRows(target(parameter.tensor), vs)).entries())
        for (const c of columns) {
          let sum = 0;
          for (let row = 0; row < rows; row++) sum += dLogit(row, vs[i]) * one.rowWeights[row % period][c];
          found[name].push(values[c]);
          wanted[name].push(sum);
        }
    const checked = [
      bench.compare("dHidden", found.dHidden, wanted.dHidden, tolerance),
      bench.compare("dWeight of targets", found.dWeight, wanted.dWeight, tolerance),
      bench.compare("dWeight of other ids", found.others, wanted.others, tolerance),
    ];
    return { ...time, checked: checked.join(", ") };
  });
}

function divergence(bench: Bench, rows: number): Promise<Measured> {
  return withHeads(bench, rows, 2, async ([p, q]) => {
    const targets = targetsOf(bench, rows);
    const { logSumExp: logSumExpP } = headOf(p.hidden, p.parameter, targets, { temperature });
    const given = { hiddenQ: q.hidden, headQ: q.parameter, rows: null, hiddenP: p.hidden, headP: p.parameter };
    const call = () => klAndScore({ ...given, logSumExpP, targets, temperature });
    const time = await bench.time(() => scope(() => void call()));
    const expected = Float64Array.from({ length: period }, (_, row) => {
      const [own, other] = [p.softmax(row), q.softmax(row)];
      let sum = 0;
      for (let v = 0; v < own.z.length; v++) {
        const logP = own.z[v] - own.logSumExp;
        sum += Math.exp(logP) * (logP - (other.z[v] - other.logSumExp));
      }
      return sum;
    });
    const found = await call().kl.read();
    const all = Float64Array.from({ length: rows }, (_, row) => expected[row % period]);
    return { ...time, checked: bench.compare("KL", found, all, tolerance) };
  });
}

export const head: PartOf = ({ head: { hidden: C, vocabulary: V, rows, trainingRows } }) => {
  const one = (
    pass: "forward" | "backward" | "KL",
    T: number,
    factors: readonly [flops: number, weights: number],
    body: typeof forward,
  ): Case => ({
    name: `${pass === "KL" ? "KL" : `head ${pass}`} ${T} ${T === 1 ? "row" : "rows"} × ${V} ids`,
    flops: factors[0] * 2 * T * C * V,
    bytes: 4 * factors[1] * (V * C + T * C),
    peer: { kind: "head", pass, T, C, V },
    measure: (bench) => body(bench, T),
  });
  return {
    cases: [
      ...rows.map((T) => one("forward", T, [1, 1], forward)),
      one("forward", trainingRows, [1, 1], forward),
      // Logits once more, and both products; the weight is read twice and its gradient written.
      one("backward", trainingRows, [3, 3], backward),
      one("KL", trainingRows, [2, 2], divergence),
    ],
  };
};
