// The three quantities away from the origin, against PyTorch in float64 (landscape.json); what holds exactly at the origin;
// and three interleaved grid points in one batch against float64 forwards on materialised weights.
import { equal } from "uvu/assert";
import type { Backend } from "../../engine/index.ts";
import {
  CpuBackend,
  directionNormals,
  fromArray,
  head,
  keep,
  linear,
  type Parameter,
  type ParameterArena,
  philoxKey,
  record,
  scopeAsync,
  surrogate,
  type Tensor,
  type Weights,
  wordsOf,
} from "../../engine/index.ts";
import { makeSlice, stepsTo } from "../../landscape/measure/directions.ts";
import { PerturbedWeights, pointWeights } from "../../landscape/measure/perturbed-weights.ts";
import { scorePoint, scoreReference } from "../../landscape/measure/reference.ts";
import { pointOf } from "../../landscape/statistics/points.ts";
import {
  answerStates,
  headWeight,
  type LanguageModel,
  loadModel,
  makeWeights,
  packSequences,
} from "../../model/index.ts";
import { groupAdvantages, type Rollout } from "../../rl/index.ts";
import { testBackends } from "../backends.ts";
import { readSafetensorsFixture } from "../fixture-tensors.ts";
import { assertClose, assertKnown, describe, fixturePath, readFixture, type Tolerance } from "../support.ts";

interface KnownPoint {
  alpha: number;
  beta: number;
  objectiveBatchToken: number;
  objectiveGroupToken: number;
  objectiveSequence: number;
  klPerToken: number;
  klPerSequence: number;
  k1: number;
  k3: number;
  entropy: number;
}
interface Known {
  checkpoint: string;
  clipLow: number;
  clipHigh: number;
  assistantTokens: number;
  sequences: {
    group: number;
    ids: number[];
    mask: number[];
    samplerLogProbs: number[];
    reward: number;
    advantage: number;
  }[];
  norms: Record<string, { weight: number; delta: number; eta: number }>;
  points: KnownPoint[];
  slope: [number, number];
  fisher: [[number, number], [number, number]];
}

const file = "landscape.json";
const known = readFixture<Known>(file);
const gaussians = readSafetensorsFixture("landscape.safetensors");

function rollouts(): { list: Rollout[]; perPrompt: number } {
  const list = known.sequences.map(
    ({ group, ids, mask, samplerLogProbs, reward }, rollout): Rollout => ({
      episode: group,
      rollout,
      point: 0,
      messages: [],
      ids,
      mask,
      logProbs: samplerLogProbs,
      entropySum: 0,
      tokens: mask.reduce((a, b) => a + b, 0),
      isTruncated: false,
      isLastTruncated: false,
      reward,
      parts: { turnScores: [], formatFailed: [] },
      failure: null,
    }),
  );
  return { list, perPrompt: list.filter(({ episode }) => episode === 0).length };
}

/** Weights θ + αδ + βη of one point, the directions being the fixture's own Gaussians. */
async function perturbedByFile(
  arena: ParameterArena,
  alpha: number,
  beta: number,
): Promise<Weights & { free(): void }> {
  const parameters = new Map<string, Parameter>();
  const made: Tensor[] = [];
  const move = byFile(alpha, beta);
  for (const [name, values] of await arena.read()) {
    const weight = arena.value(name);
    const moved = Float32Array.from(values, (_, i) => move(name, values, i));
    const rows = keep(fromArray(weight.backend, moved, weight.shape, weight.dtype, name));
    made.push(rows);
    parameters.set(name, { kind: "slots", shape: weight.shape, slots: new Map([[0, { rows, panels: null }]]) });
  }
  const get = (name: string): Parameter => {
    const found = parameters.get(name);
    if (found === undefined) throw new Error(name);
    return found;
  };
  return {
    dtype: arena.dtype,
    isPerturbed: true,
    get,
    free: () => {
      for (const tensor of made) tensor.free();
    },
  };
}

async function onEveryBackend(): Promise<{ name: string; backend: Backend; dtype: "f32" | "f64" }[]> {
  return (await testBackends()).map((one) => ({ ...one, dtype: "f32" as const }));
}

/** A float64 arena holding θ + αδ + βη, computed in float64. */
async function materialised(
  backend: Backend,
  move: (name: string, values: Float32Array, at: number) => number,
): Promise<{ config: LanguageModel; weights: ParameterArena }> {
  const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint), { dtype: "f64" });
  for (const [name, values] of await weights.read())
    weights.load(
      name,
      Float64Array.from(values, (_, i) => move(name, values, i)),
    );
  weights.refreshCopies();
  return { config, weights };
}

const byFile =
  (alpha: number, beta: number) =>
  (name: string, values: Float32Array, i: number): number => {
    const { weight, delta, eta } = known.norms[name];
    const g = gaussians.get(`delta.${name}`)?.values[i] ?? Number.NaN;
    const h = gaussians.get(`eta.${name}`)?.values[i] ?? Number.NaN;
    return values[i] + alpha * (weight / delta) * g + beta * (weight / eta) * h;
  };

describe("landscape/landscape", (test) => {
  test("J, KL, k1, k3 and entropy at every known point", async () => {
    const { list, perPrompt } = rollouts();
    for (const { name: on, backend } of await onEveryBackend()) {
      const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint));
      const model = { backend, config, weights };
      const reference = await scoreReference(model, list, perPrompt, { maxTokens: 60 });
      // The advantages of J have the setting's epsilon.
      const { reward, advantage } = (
        await scoreReference(model, list, perPrompt, { maxTokens: 60, advantageEpsilon: 0.5 })
      ).set;
      equal(
        advantage,
        reward.map((group) => [...groupAdvantages("grpo", group, 0.5)]),
      );
      for (const point of known.points) {
        const moved = await scopeAsync(() => perturbedByFile(weights, point.alpha, point.beta));
        const scored = await scorePoint(model, { backend, config, weights: moved }, 0, reference, {
          maxTokens: 60,
          clipLow: known.clipLow,
          clipHigh: known.clipHigh,
        });
        moved.free();
        const zeros = reference.set.tokens.map((row) => row.map(() => 0));
        const found = pointOf(
          {
            i: 0,
            j: 0,
            alpha: point.alpha,
            beta: point.beta,
            rollouts: { reward: zeros, tokens: zeros, entropy: zeros, truncated: zeros, formatFailed: zeros },
            reference: scored,
          },
          reference.set,
        );
        const check = (quantity: string, actual: number, expected: number, tolerance: Tolerance): void =>
          assertKnown(file, quantity, on, [actual], [expected], tolerance);
        // fixtures/README.md: 2e-5, klPerSequence 1e-4.
        check("klPerToken", found.kl_token, point.klPerToken, { absolute: 2e-5 });
        check("klPerSequence", found.kl_sequence, point.klPerSequence, { absolute: 1e-4 });
        check("k1", found.k1_token, point.k1, { absolute: 2e-5 });
        check("k3", found.k3_token, point.k3, { absolute: 2e-5 });
        check("objectiveGroupToken", found.j_group_token, point.objectiveGroupToken, { absolute: 2e-5 });
        check("objectiveBatchToken", found.j_batch_token, point.objectiveBatchToken, { absolute: 2e-5 });
        check("objectiveSequence", found.j_sequence, point.objectiveSequence, { absolute: 2e-5 });
        check("entropy", found.reference_entropy, point.entropy, { absolute: 2e-5 });
        if (point.alpha === 0 && point.beta === 0) {
          const all = [scored.kl, scored.k1, scored.k3].flat(2);
          if (all.some((value) => value !== 0)) throw new Error(`${on}: KL, k1, k3 are not exactly 0 at the origin`);
          // ρ is exactly 1 where the surrogate of each token is exactly its advantage.
          scored.objective.flat().forEach((sum, i) => {
            assertClose(`${on}: objective at the origin`, [sum], [list[i].tokens * reference.advantages[i]], {
              relative: 1e-14,
            });
          });
        }
      }
      weights.free();
    }
  });

  test("the slope of J at the origin, by backward", async () => {
    const { list, perPrompt } = rollouts();
    const groups = list.length / perPrompt;
    for (const { name: on, backend, dtype } of [
      { name: "plain f64", backend: new CpuBackend(), dtype: "f64" as const },
      ...(await onEveryBackend()),
    ]) {
      const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint), { trainable: true, dtype });
      const model = { backend, config, weights };
      await scopeAsync(async () => {
        const tokensOf = (group: number): number =>
          list.filter(({ episode }) => episode === group).reduce((sum, { tokens }) => sum + tokens, 0);
        const perToken = (value: (r: Rollout, i: number) => number) =>
          list.flatMap((r, i) => new Array<number>(r.tokens).fill(value(r, i)));
        const vector = (values: number[]) => fromArray(backend, values, [values.length], dtype);
        const recording = record(() => {
          const { hidden, targets } = answerStates(model, list);
          const { logProbs } = head(hidden, headWeight(config, weights), targets, { temperature: 1 }, null);
          return surrogate(
            logProbs,
            vector(list.flatMap(({ logProbs: own, mask }) => own.filter((_, t) => mask[t] === 1))),
            vector(perToken((_, i) => known.sequences[i].advantage)),
            vector(perToken(({ episode }) => 1 / (tokensOf(episode) * groups))),
            null,
            {
              kind: "clipped",
              clipLow: known.clipLow,
              clipHigh: known.clipHigh,
              klCoefficient: 0,
              ratioLow: 0,
              ratioHigh: 1e30,
            },
          ).loss;
        });
        const one = fromArray(backend, [1], recording.result.shape, dtype);
        recording.backward(new Map([[recording.result, one]]), weights.gradients);
      });
      const slope = [0, 0];
      for (const [name, gradient] of await weights.read(weights.names, "gradients")) {
        const { weight, delta, eta } = known.norms[name];
        const g = gaussians.get(`delta.${name}`)?.values ?? [];
        const h = gaussians.get(`eta.${name}`)?.values ?? [];
        for (let i = 0; i < gradient.length; i++) {
          slope[0] -= (gradient[i] * g[i] * weight) / delta;
          slope[1] -= (gradient[i] * h[i] * weight) / eta;
        }
      }
      assertKnown(file, "slope", on, slope, known.slope, { ofScale: 1e-3 });
      weights.free();
    }
  });

  test("the Fisher matrix, by central differences of log-probabilities in float64", async () => {
    const backend = new CpuBackend();
    const { list } = rollouts();
    // All log-probabilities of every position that predicts an assistant's token.
    const distributions = async (alpha: number, beta: number): Promise<Float64Array> => {
      const { config, weights } = await materialised(backend, byFile(alpha, beta));
      const logits = await scopeAsync(async () => {
        const { hidden } = answerStates({ backend, config, weights }, list);
        return linear(hidden, headWeight(config, weights), null, null).read();
      });
      weights.free();
      const V = config.vocabSize;
      const found = new Float64Array(logits.length);
      for (let row = 0; row < logits.length / V; row++) {
        const z = logits.subarray(row * V, (row + 1) * V);
        let most = Number.NEGATIVE_INFINITY;
        for (const value of z) most = Math.max(most, value);
        let sum = 0;
        for (const value of z) sum += Math.exp(value - most);
        for (let v = 0; v < V; v++) found[row * V + v] = z[v] - most - Math.log(sum);
      }
      return found;
    };
    const h = 1e-4;
    const base = await distributions(0, 0);
    const tangents: Float64Array[] = [];
    for (const [a, b] of [
      [h, 0],
      [0, h],
    ]) {
      const plus = await distributions(a, b);
      const minus = await distributions(-a, -b);
      tangents.push(plus.map((value, i) => (value - minus[i]) / (2 * h)));
    }
    const fisher = tangents.map((u) =>
      tangents.map((v) => base.reduce((sum, p, i) => sum + Math.exp(p) * u[i] * v[i], 0) / known.assistantTokens),
    );
    assertKnown(file, "fisher", "plain f64", fisher.flat(), known.fisher.flat(), { ofScale: 1e-3 });
  });

  test("three interleaved points in one batch equal float64 forwards on materialised weights", async () => {
    const cells = [
      { i: 0, j: 0, alpha: -0.05, beta: 0.03, squaredSteps: 0 },
      { i: 0, j: 1, alpha: 0.02, beta: 0.05, squaredSteps: 0 },
      { i: 1, j: 1, alpha: 0, beta: 0, squaredSteps: 0 },
    ];
    const order = [0, 1, 2, 1, 0, 2, 2, 0];
    const sequences = order.map((_, i) => known.sequences[i % known.sequences.length].ids);
    const plain = new CpuBackend();
    const truth: Float64Array[] = [];
    const { weights: stored } = await loadModel(plain, fixturePath(known.checkpoint));
    const norms = new Map(
      [...(await stored.read())].map(([name, values]) => [name, Math.sqrt(values.reduce((s, w) => s + w * w, 0))]),
    );
    for (const { alpha, beta } of cells) {
      const noise = new Map<string, { g: Float64Array; h: Float64Array; a: number; b: number }>();
      for (const [name, length] of norms) {
        const size = stored.value(name).size;
        const g = directionNormals(philoxKey("direction|7|3|delta"), wordsOf(name), size);
        const h = directionNormals(philoxKey("direction|7|3|eta"), wordsOf(name), size);
        const normOf = (x: Float64Array): number => Math.sqrt(x.reduce((s, v) => s + v * v, 0));
        noise.set(name, { g, h, a: (alpha * length) / normOf(g), b: (beta * length) / normOf(h) });
      }
      const { config, weights } = await materialised(plain, (name, values, i) => {
        const own = noise.get(name);
        return own === undefined ? Number.NaN : values[i] + own.a * own.g[i] + own.b * own.h[i];
      });
      const logits = await scopeAsync(async () => {
        const batch = packSequences(plain, sequences);
        return linear(config.forward(weights, batch, null), headWeight(config, weights), null, null).read();
      });
      truth.push(Float64Array.from(logits));
      weights.free();
    }
    for (const { name: on, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath(known.checkpoint));
      const slice = await makeSlice(weights, 7, 3);
      const unperturbed = await scopeAsync(async () => {
        const batch = packSequences(backend, sequences);
        return linear(config.forward(weights, batch, null), headWeight(config, weights), null, null).read();
      });
      let start = 0;
      const rows = sequences.map(({ length }, i) => {
        const group = { start, count: length, point: order[i] };
        start += length;
        return group;
      });
      for (const kind of ["slots", "in-tile"] as const) {
        const points = pointWeights(weights, cells.length, { weights: kind, precision: "f32" });
        points.placeAlong(cells.map((cell) => (name) => stepsTo(cell, slice, name)));
        const logits = await scopeAsync(async () => {
          const batch = packSequences(backend, sequences, rows);
          return linear(config.forward(points, batch, null), headWeight(config, points), null, rows).read();
        });
        for (const { start: first, count, point } of rows) {
          const cut = (values: ArrayLike<number>): ArrayLike<number> =>
            Array.prototype.slice.call(values, first * config.vocabSize, (first + count) * config.vocabSize);
          // As logits of an unperturbed model (1e-4), and the Gaussians' 4e-6 on weights of a twentieth of their size.
          const what = `${on}, ${kind}: rows from ${first}, point ${point}`;
          assertClose(what, cut(logits), cut(truth[point]), { absolute: 1.5e-4 });
          if (point === 2) assertClose(`${what}: the origin, bit for bit`, cut(logits), cut(unperturbed), {});
        }
        points.free();
      }
      weights.free();
    }
  });

  test("a sweep's slots leave the checkpoint's weights as they were", async () => {
    for (const { name: on, backend } of await testBackends()) {
      const { weights } = await loadModel(backend, fixturePath(known.checkpoint));
      const before = await weights.read();
      const slots = new PerturbedWeights(weights, 2);
      const slice = await makeSlice(weights, 1, 0);
      slots.place([{ i: 0, j: 0, alpha: 0.05, beta: 0.05, squaredSteps: 0 }], slice);
      for (const [name, values] of await weights.read())
        assertClose(`${on}: ${name}`, values, before.get(name) ?? [], {});
      const again = await makeSlice(weights, 1, 0);
      if (again.digest !== slice.digest) throw new Error(`${on}: the slice is not the same from the same seed`);
      slots.free();
      weights.free();
    }
  });

  test("matrices that only the forward product reads have no second copy in a slot", async () => {
    const { config, weights: loaded } = await loadModel(new CpuBackend(), fixturePath(known.checkpoint));
    loaded.free();
    const backend = new CpuBackend();
    const weights = makeWeights(backend, config);
    const before = backend.statistics().liveBytes;
    const slots = new PerturbedWeights(weights, 1);
    // A norm or bias has rows, a linear layer panels of 8 outputs; a tied embedding, looked up as well as multiplied by, has
    // both. Panels of one group are parts of one buffer, so bytes are counted, not buffers.
    let expected = 0;
    for (const name of weights.names) {
      const { shape, rowSize, size } = weights.value(name);
      const panels = 8 * Math.ceil(shape[0] / 8) * rowSize;
      expected += 4 * (weights.isLinear(name) ? panels : size);
      if (config.tieWordEmbeddings && name === config.headName()) expected += 4 * panels;
    }
    const made = backend.statistics().liveBytes - before;
    if (made !== expected) throw new Error(`expected ${expected} bytes in a slot, got ${made}`);
    slots.free();
    weights.free();
  });
});
