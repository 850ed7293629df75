// Causal attention of one sequence, forward and backward, and attention of decoding: one query per row over its own keys.
import { attention as attentionOf, causalSpans, fromArray, record, scope, type Tensor } from "../../engine/index.ts";
import { empty } from "../../engine/tensor.ts";
import { Numbers } from "./numbers.ts";
import { type Bench, type Case, type Measured, type PartOf, readRows, spread } from "./part.ts";
import type { Sizes } from "./sizes.ts";

type Heads = Sizes["heads"];
const tolerance = 2e-5;
/** Multiply-adds that the check of a key's gradient may need: it reads every query after the key. */
const mostWork = 1e8;
const names = ["q", "keys", "values", "dy"] as const;

/** The operands as functions of their indices, and attention of single queries by its formula in float64. */
class Textbook {
  readonly numbers: Readonly<Record<(typeof names)[number], Numbers>> = {
    q: new Numbers(1),
    keys: new Numbers(2),
    values: new Numbers(3),
    dy: new Numbers(4),
  };
  readonly #heads: Heads;

  constructor(heads: Heads) {
    this.#heads = heads;
  }

  keyHead(head: number): number {
    return Math.floor((head * this.#heads.keys) / this.#heads.queries);
  }

  /** Of a query at index `at` of q over `count` keys from slot `first` on. */
  query(at: number, head: number, first: number, count: number): { weights: Float64Array; y: Float64Array } {
    const { keys: K, size: D } = this.#heads;
    const { q, keys, values } = this.numbers;
    const own = Float64Array.from({ length: D }, (_, d) => q.at(at + d));
    const weights = new Float64Array(count);
    let total = 0;
    for (let j = 0; j < count; j++) {
      const place = ((first + j) * K + this.keyHead(head)) * D;
      let dot = 0;
      for (let d = 0; d < D; d++) dot += own[d] * keys.at(place + d);
      weights[j] = Math.exp(dot * D ** -0.5);
      total += weights[j];
    }
    const y = new Float64Array(D);
    for (let j = 0; j < count; j++) {
      weights[j] /= total;
      const place = ((first + j) * K + this.keyHead(head)) * D;
      for (let d = 0; d < D; d++) y[d] += weights[j] * values.at(place + d);
    }
    return { weights, y };
  }

  /** dS of a query of a causal sequence: for key j, p_j · (dy·v_j − dy·y). */
  scores(t: number, head: number): { weights: Float64Array; dScores: Float64Array; at: number } {
    const { queries: H, keys: K, size: D } = this.#heads;
    const { values, dy } = this.numbers;
    const at = (t * H + head) * D;
    const { weights, y } = this.query(at, head, 0, t + 1);
    let delta = 0;
    for (let d = 0; d < D; d++) delta += dy.at(at + d) * y[d];
    const dScores = weights.map((weight, j) => {
      const place = (j * K + this.keyHead(head)) * D;
      let dot = 0;
      for (let d = 0; d < D; d++) dot += dy.at(at + d) * values.at(place + d);
      return weight * (dot - delta) * D ** -0.5;
    });
    return { weights, dScores, at };
  }
}

async function checkQueries(
  bench: Bench,
  what: string,
  result: Tensor,
  expected: (row: number, head: number) => Float64Array,
): Promise<string> {
  const { queries: H, size: D } = bench.sizes.heads;
  const rows = spread(result.rows, 3);
  const [found, wanted]: [number[], number[]] = [[], []];
  for (const [i, values] of (await readRows(result, rows)).entries())
    for (const head of spread(H, 3)) {
      wanted.push(...expected(rows[i], head));
      for (let d = 0; d < D; d++) found.push(values[head * D + d]);
    }
  return bench.compare(what, found, wanted, tolerance);
}

async function causal(bench: Bench, T: number, isBackward: boolean): Promise<Measured> {
  const { backend, sizes } = bench;
  const { queries: H, keys: K, size: D } = sizes.heads;
  const textbook = new Textbook(sizes.heads);
  const make = (name: (typeof names)[number], heads: number): Tensor =>
    textbook.numbers[name].tensor(backend, [T, heads, D]);
  const [q, keys, values] = [make("q", H), make("keys", K), make("values", K)];
  const both = causalSpans([T]);
  const spans = fromArray(backend, both.spans, [T, 4], "u32");
  const querySpans = fromArray(backend, both.querySpans, [T, 2], "u32");
  const forward = (): Tensor => attentionOf(q, keys, values, spans, querySpans);
  if (!isBackward) {
    const time = await bench.time(() => scope(() => void forward()));
    const checked = await checkQueries(
      bench,
      "y",
      forward(),
      (t, head) => textbook.query((t * H + head) * D, head, 0, t + 1).y,
    );
    return { ...time, checked };
  }
  const dy = make("dy", H);
  const targets = new Map([q, keys, values].map((leaf) => [leaf, empty(backend, leaf.shape)]));
  for (const leaf of targets.keys()) leaf.requiresGradient = true;
  const recording = record(forward);
  const store = { target: (leaf: Tensor) => targets.get(leaf), has: () => false, mark: () => {} };
  const seeds = new Map([[recording.result, dy]]);
  const time = await bench.time(() => recording.backward(seeds, store));
  const target = (leaf: Tensor): Tensor => targets.get(leaf) ?? leaf;
  const dq = await checkQueries(bench, "dq", target(q), (t, head) => {
    const { dScores } = textbook.scores(t, head);
    const sum = new Float64Array(D);
    for (const [j, dScore] of dScores.entries())
      for (let d = 0; d < D; d++) sum[d] += dScore * textbook.numbers.keys.at((j * K + textbook.keyHead(head)) * D + d);
    return sum;
  });
  const keysChecked = await checkKeys(bench, textbook, T, target(keys), target(values));
  return { ...time, checked: `${dq}, ${keysChecked}` };
}

/** Gradients of the last key and of the earliest one that can be checked in time. */
async function checkKeys(bench: Bench, textbook: Textbook, T: number, dKeys: Tensor, dValues: Tensor): Promise<string> {
  const { queries: H, keys: K, size: D } = bench.sizes.heads;
  const queries = Math.min(T, Math.max(1, Math.floor(mostWork / (3 * (H / K) * T * D))));
  const rows = [...new Set([T - queries, T - 1])];
  const found = { dKeys: [] as number[], dValues: [] as number[] };
  const wanted = { dKeys: [] as number[], dValues: [] as number[] };
  const read = { dKeys: await readRows(dKeys, rows), dValues: await readRows(dValues, rows) };
  for (const [i, j] of rows.entries()) {
    const sums = { dKeys: new Float64Array(D), dValues: new Float64Array(D) };
    const keyHead = K - 1;
    for (let t = j; t < T; t++)
      for (let head = 0; head < H; head++) {
        if (textbook.keyHead(head) !== keyHead) continue;
        const { weights, dScores, at } = textbook.scores(t, head);
        for (let d = 0; d < D; d++) {
          sums.dKeys[d] += dScores[j] * textbook.numbers.q.at(at + d);
          sums.dValues[d] += weights[j] * textbook.numbers.dy.at(at + d);
        }
      }
    for (const name of ["dKeys", "dValues"] as const) {
      wanted[name].push(...sums[name]);
      for (let d = 0; d < D; d++) found[name].push(read[name][i][keyHead * D + d]);
    }
  }
  return [
    bench.compare("dKeys", found.dKeys, wanted.dKeys, tolerance),
    bench.compare("dValues", found.dValues, wanted.dValues, tolerance),
  ].join(", ");
}

async function decoding(bench: Bench, rows: number, count: number): Promise<Measured> {
  const { backend, sizes } = bench;
  const { queries: H, keys: K, size: D } = sizes.heads;
  const textbook = new Textbook(sizes.heads);
  const q = textbook.numbers.q.tensor(backend, [rows, H, D]);
  const keys = textbook.numbers.keys.tensor(backend, [rows * count, K, D]);
  const values = textbook.numbers.values.tensor(backend, [rows * count, K, D]);
  const spans = fromArray(
    backend,
    Uint32Array.from({ length: 4 * rows }, (_, i) => [0, 0, Math.floor(i / 4) * count, count][i % 4]),
    [rows, 4],
    "u32",
  );
  const forward = (): Tensor => attentionOf(q, keys, values, spans, null);
  const time = await bench.time(() => scope(() => void forward()));
  const checked = await checkQueries(
    bench,
    "y",
    forward(),
    (row, head) => textbook.query((row * H + head) * D, head, row * count, count).y,
  );
  return { ...time, checked };
}

/**
 * Products per pair of query and key. Forward: q·k and p·v. Backward: q·k and dy·v twice, since two kernels need them,
 * and the three gradients.
 */
const productsPerPair = { forward: 2, backward: 7 } as const;

export const attention: PartOf = ({ heads, attention: { tokens, decodeRows, decodeKeys } }) => {
  const { queries: H, keys: K, size: D } = heads;
  return {
    cases: [
      ...tokens.flatMap((T) =>
        (["forward", "backward"] as const).map(
          (pass): Case => ({
            name: `attention ${pass} ${T} tokens`,
            flops: 2 * productsPerPair[pass] * ((T * (T + 1)) / 2) * H * D,
            bytes: 4 * (pass === "forward" ? 2 : 4) * T * (H + K) * D,
            peer: { kind: "attention", pass, rows: 1, T, S: T, H, K, D },
            measure: (bench) => causal(bench, T, pass === "backward"),
          }),
        ),
      ),
      ...decodeRows.map(
        (rows): Case => ({
          name: `attention decode ${rows} × ${decodeKeys} keys`,
          flops: 4 * rows * decodeKeys * H * D,
          bytes: 4 * rows * (2 * H * D + 2 * decodeKeys * K * D),
          peer: { kind: "attention", pass: "forward", rows, T: 1, S: decodeKeys, H, K, D },
          measure: (bench) => decoding(bench, rows, decodeKeys),
        }),
      ),
    ],
  };
};
