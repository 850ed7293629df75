// Drawing a token for each of 16 rows from the logits of Qwen2.5's vocabulary (151,936), and for each of the tiny
// model's 448 rows from 371: the draw by Gumbel noise, and the filters before it (top-k 50, top-p 0.9).
import type { Backend } from "../../../../engine/backends/backend.ts";
import { emptySamples, sampleChunk } from "../../../../engine/ops/sampling/sampling.ts";
import { noWarping, warpLogits } from "../../../../engine/ops/sampling/warp.ts";
import { gumbel, tokenCounterRow, tokenKey, tokenWord } from "../../../../engine/random.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { forwardWork, operand } from "../../../operands.ts";

const topK = 50;
const topP = 0.9;
const temperature = 0.7;
const checkedRows = 2;

function draw(backend: Backend, R: number, V: number): BenchWork {
  const logits = operand(backend, [R, V], 1, [0, 8]);
  const place = (row: number) => ({ position: 5, turn: 1, rollout: row, prompt: 77 });
  const words = Array.from({ length: R }, (_, row) => tokenCounterRow(place(row))).flat();
  const counters = fromArray(backend, words, [R, 4], "u32");
  const key = tokenKey(1, "train", 0);
  const samples = emptySamples(logits.tensor);
  return {
    run: () => sampleChunk(logits.tensor, { start: 0, count: V }, counters, samples, { key, temperature }),
    check: async () => {
      const ids = await samples.id.read();
      for (let row = 0; row < R; row += Math.ceil(R / checkedRows)) {
        const score = (id: number): number =>
          logits.at(row * V + id) / temperature + gumbel(tokenWord(id, place(row), key));
        let best = 0;
        for (let id = 1; id < V; id++) if (score(id) > score(best)) best = id;
        // Noise is within 4e-6 of float64, scores are sums of f32: a tie of that size may be decided either way.
        if (!(ids[row] < V && score(ids[row]) >= score(best) - 1e-5))
          throw new Error(`row ${row}: expected id ${best} of score ${score(best)}, got ${ids[row]}`);
      }
    },
  };
}

function cut(backend: Backend, R: number, V: number, by: "top-k" | "top-p"): BenchWork {
  const logits = operand(backend, [R, V], 1, [0, 8]);
  const warping = by === "top-k" ? { ...noWarping, topK } : { ...noWarping, topP };
  return forwardWork(
    () => warpLogits(logits.tensor, V, temperature, null, warping),
    async (warped) => {
      const found = await warped.read();
      for (let row = 0; row < R; row += Math.ceil(R / checkedRows)) {
        const z = Float64Array.from({ length: V }, (_, id) => logits.at(row * V + id) / temperature);
        const descending = Float64Array.from(z).sort().reverse();
        const total = descending.reduce((sum, value) => sum + Math.exp(value), 0);
        let reached = 0;
        let kept = 0;
        while (by === "top-k" ? kept < topK : reached < topP * total) reached += Math.exp(descending[kept++]);
        const least = descending[kept - 1];
        for (let id = 0; id < V; id++) {
          // The logit at which f32 sums of probabilities reach their target is known only to about 1e-5 of the logits'
          // range.
          if (Math.abs(z[id] - least) < (by === "top-k" ? 1e-6 : 1e-3)) continue;
          const expected = z[id] > least ? z[id] : Number.NEGATIVE_INFINITY;
          const got = found[row * V + id];
          if (!(got === expected || Math.abs(got - expected) < 1e-5))
            throw new Error(`row ${row}, id ${id}: expected ${expected}, got ${got}`);
        }
      }
    },
  );
}

const sizes = [
  { name: "16 rows × 151,936", R: 16, V: 151_936 },
  { name: "tiny, 448 rows × 371", R: 448, V: 371 },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, R, V }) => [
  {
    name: `sample ${name}`,
    flops: 3 * R * V,
    bytes: 4 * R * V,
    setUp: (backend: Backend) => draw(backend, R, V),
  },
  ...(["top-k", "top-p"] as const).map((by) => ({
    name: `warp ${by} ${name}`,
    flops: R * V,
    bytes: 4 * 2 * R * V,
    setUp: (backend: Backend) => cut(backend, R, V, by),
  })),
]);
