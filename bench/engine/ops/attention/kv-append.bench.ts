// Appending keys and values of new tokens to a cache: for one decode step of Qwen2.5-0.5B (2 heads of 64), for a
// prompt, and for the tiny model (2 heads of 16).
import type { Backend } from "../../../../engine/backends/backend.ts";
import { appendToCache } from "../../../../engine/ops/attention/kv-append.ts";
import { empty, fromArray } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { expectSome, operand } from "../../../operands.ts";

const slotsPerToken = 16;

function setUp(backend: Backend, T: number, K: number, D: number): BenchWork {
  const S = T * slotsPerToken;
  const [k, v] = [operand(backend, [T, K, D], 1), operand(backend, [T, K, D], 2)];
  const places = Uint32Array.from({ length: T }, (_, t) => S - 1 - t * slotsPerToken);
  const slots = fromArray(backend, places, [T], "u32");
  const [keys, values] = [empty(backend, [S, K, D]), empty(backend, [S, K, D])];
  const of = (from: (place: number) => number, t: number) => (i: number) => from(t * K * D + i);
  return {
    run: () => appendToCache(k.tensor, v.tensor, slots, keys, values),
    check: async () => {
      for (let t = 0; t < T; t += Math.ceil(T / 16)) {
        await expectSome(`keys of token ${t}`, keys.sliceRows(places[t], 1), of(k.at, t), 0);
        await expectSome(`values of token ${t}`, values.sliceRows(places[t], 1), of(v.at, t), 0);
      }
    },
  };
}

const sizes = [
  { name: "decode 0.5B", T: 16, K: 2, D: 64 },
  { name: "decode 0.5B", T: 256, K: 2, D: 64 },
  { name: "decode tiny", T: 448, K: 2, D: 16 },
];

export const cases: readonly BenchCase[] = sizes.map(({ name, T, K, D }) => ({
  name: `append to cache ${name}, ${T} tokens`,
  flops: 0,
  bytes: 4 * 4 * T * K * D,
  setUp: (backend: Backend) => setUp(backend, T, K, D),
}));
