// Generation through the cache against the plainest thing that it may be held to: one float64 forward over a whole
// dialogue, without a cache, on weights that were written out. Two grid points talk about the same prompts at once, from
// caches that are too small for all of them, so that rows end at different lengths, leave, and others move into their slots.
import {
  type Backend,
  CpuBackend,
  directionNormals,
  linear,
  type ParameterArena,
  scopeAsync,
  tokenKey,
  wordsOf,
} from "../../../engine/index.ts";
import type { GridCell } from "../../../landscape/grid.ts";
import { makeSlice, type Slice } from "../../../landscape/measure/directions.ts";
import { PerturbedWeights } from "../../../landscape/measure/perturbed-weights.ts";
import { generate, headWeight, type LanguageModel, loadModel, packSequences } from "../../../model/index.ts";
import { testBackends } from "../../backends.ts";
import { assertClose, describe, fixturePath } from "../../support.ts";

interface Said {
  ids: number[];
  mask: number[];
  logProbs: number[];
}

const cells = [
  { i: 0, j: 0, alpha: -0.06, beta: 0.04, squaredSteps: 0 },
  { i: 0, j: 1, alpha: 0.05, beta: 0.05, squaredSteps: 0 },
];
const prompts = 5;
const rollouts = 3;

/** Dialogues of both points, interleaved: every prompt from both, follow-ups of 0 to 4 tokens, answers as they come. */
function dialogues(vocabulary: number, said: Map<string, Said>) {
  const word = (i: number): number => 2 + ((i * 7919) % (vocabulary - 2));
  const made = [];
  for (let prompt = 0; prompt < prompts; prompt++)
    for (let rollout = 0; rollout < rollouts; rollout++)
      for (const point of cells.keys()) {
        const ids = Array.from({ length: 1 + 4 * prompt }, (_, i) => word(31 * prompt + i));
        const follow = Array.from({ length: (prompt + rollout) % 5 }, (_, i) => word(997 + prompt + i));
        const own: Said = { ids: [...ids], mask: ids.map(() => 0), logProbs: [] };
        said.set(`point ${point}, prompt ${prompt}, rollout ${rollout}`, own);
        made.push({
          policy: point,
          prompt: ids,
          noise: { rollout, prompt },
          expectedTokens: 4, // fewer than come: rows outgrow their runs
          answered: (answer: { ids: readonly number[]; logProbs: readonly number[]; turn: number }) => {
            own.ids.push(...answer.ids);
            own.mask.push(...answer.ids.map(() => 1));
            own.logProbs.push(...answer.logProbs);
            if (answer.turn === 1 || follow.length === 0) return null;
            own.ids.push(...follow);
            own.mask.push(...follow.map(() => 0));
            return follow;
          },
        });
      }
  return made;
}

/** A float64 model on θ + αδ + βη, written out. */
async function materialised(
  backend: Backend,
  checkpoint: string,
  { alpha, beta }: GridCell,
  slice: Slice,
): Promise<{ config: LanguageModel; weights: ParameterArena }> {
  const { config, weights } = await loadModel(backend, checkpoint, { dtype: "f64" });
  for (const [name, values] of await weights.read()) {
    const [g, h] = [slice.delta, slice.eta].map((direction) => {
      const one = direction.get(name);
      if (one?.kind !== "gaussian") throw new Error(`${name}: expected a Gaussian`);
      return directionNormals(one.key, wordsOf(name), values.length).map((normal) => one.scale * normal);
    });
    weights.load(
      name,
      Float64Array.from(values, (w, i) => w + alpha * g[i] + beta * h[i]),
    );
  }
  weights.refreshCopies();
  return { config, weights };
}

/** log p of each masked token, from one forward over all of them. */
async function logProbsOf(
  backend: Backend,
  { config, weights }: { config: LanguageModel; weights: ParameterArena },
  { ids, mask }: Said,
): Promise<number[]> {
  const logits = await scopeAsync(async () => {
    const batch = packSequences(backend, [ids]);
    return linear(config.forward(weights, batch, null), headWeight(config, weights), null, null).read();
  });
  return ids.flatMap((id, t) => {
    if (mask[t] === 0) return [];
    const row = Array.prototype.slice.call(logits, (t - 1) * config.vocabSize, t * config.vocabSize) as number[];
    const largest = Math.max(...row);
    return [row[id] - largest - Math.log(row.reduce((sum, z) => sum + Math.exp(z - largest), 0))];
  });
}

describe("landscape/cached generation", (test) => {
  test("two points, one prompt, refills after eviction: what float64 says of the whole dialogue", async () => {
    const checkpoint = fixturePath("qwen2-tiny");
    for (const { name: on, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, checkpoint);
      const slots = new PerturbedWeights(weights, cells.length);
      const slice = await makeSlice(weights, 7, 3);
      slots.place(cells, slice);
      const said = new Map<string, Said>();
      let passes = 0;
      let most = 0;
      await generate({ backend, config, weights: slots }, dialogues(config.vocabSize, said), {
        maxNewTokens: 11,
        temperature: 1,
        noiseKey: tokenKey(1, "test", 0),
        stopIds: Array.from({ length: Math.ceil(config.vocabSize / 12) }, (_, i) => i * 12),
        maxTokens: 40,
        maxRows: 7,
        onPass: ({ sampled }) => {
          passes++;
          most = Math.max(most, sampled);
        },
      });
      if (said.size !== prompts * rollouts * cells.length || most > 7 || passes < (said.size / 7) * 2)
        throw new Error(`${on}: ${said.size} dialogues in ${passes} passes of at most ${most} rows: no refills`);
      const lengths = new Set([...said.values()].map(({ logProbs }) => logProbs.length));
      if (lengths.size < 5) throw new Error(`${on}: answers of ${[...lengths]} tokens: not ragged`);

      const plain = new CpuBackend();
      for (const [point, cell] of cells.entries()) {
        const truth = await materialised(plain, checkpoint, cell, slice);
        for (const [what, own] of said)
          if (what.startsWith(`point ${point},`))
            // As logits of an unperturbed model (1e-4), and the Gaussians' 4e-6 on weights of a twentieth of their size.
            assertClose(`${on}: ${what}`, own.logProbs, await logProbsOf(plain, truth, own), { absolute: 1.5e-4 });
        truth.weights.free();
      }
      slots.free();
      weights.free();
    }
  });
});
