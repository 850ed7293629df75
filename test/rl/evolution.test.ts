// Evolution strategies: fitness by hand, one step against the formula in float64, and a quadratic that it
// descends.
import assert from "node:assert/strict";
import { directionNormals, type NumberArray, ParameterArena, philoxKey, wordsOf } from "../../engine/index.ts";
import { applyUpdate, fitnessOf, type Generation, stepToMember, streamsOf } from "../../rl/evolution.ts";
import { reference, testBackends } from "../backends.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";

const shapes = new Map([
  ["a.weight", { shape: [7, 5] }],
  ["b.bias", { shape: [9] }],
]);
const base = { population: 6, sigma: 0.05, learningRate: 0.02, antithetic: false, fitness: "z-score" } as const;
const generationOf = (step: number, more: Partial<Generation["settings"]> = {}): Generation => ({
  seed: 3,
  step,
  settings: { ...base, ...more },
});
const gaussian = (step: number, number: number, name: string, size: number) =>
  directionNormals(philoxKey(`evolve|3|${step}|${number}`), wordsOf(name), size);

describe("rl/evolution", (test) => {
  test("fitness: centred ranks with ties, z-scores, equal rewards, members without a reward", () => {
    assert.deepEqual(fitnessOf("centred-ranks", [0.3, 0.1, 0.9]), [0, -0.5, 0.5]);
    assert.deepEqual(fitnessOf("centred-ranks", [0.2, 0.2, 0.9, 0.1, 0.2]), [0, 0, 0.5, -0.5, 0]);
    assert.deepEqual(fitnessOf("centred-ranks", [0.3, null, 0.9]), [-0.5, 0, 0.5]);
    // Mean 2, deviation √(2/3).
    assertClose("z-score", fitnessOf("z-score", [1, 2, 3]), [-Math.sqrt(1.5), 0, Math.sqrt(1.5)], { absolute: 1e-15 });
    for (const kind of ["centred-ranks", "z-score"] as const) {
      assert.deepEqual(fitnessOf(kind, [0.7, 0.7, 0.7]), [0, 0, 0]);
      assert.deepEqual(fitnessOf(kind, [0.7, null]), [0, 0]);
    }
    assert.throws(() => fitnessOf("z-score", [1, Number.NaN]), /expected finite rewards, got NaN/);
  });

  test("one step is α / (N·σ) · Σ F_i · ε_i, with pairs and without; its norm and the cosine with the step before", async () => {
    for (const antithetic of [false, true])
      for (const { name: on, backend } of [{ name: "f64", backend: reference }, ...(await testBackends())]) {
        const isDouble = backend === reference;
        const arena = new ParameterArena(backend, shapes, { dtype: isDouble ? "f64" : "f32" });
        const fitnesses = [
          [-1.2, 0.4, 1.1, -0.3, 0.6, -0.6],
          [0.5, -0.1, 0.3, 0.7, -1.4, 0],
        ];
        const expected = fitnesses.map((fitness, i) =>
          [...shapes].flatMap(([name, { shape }]) => {
            const size = shape.reduce((a, b) => a * b, 1);
            const sums = new Array<number>(size).fill(0);
            for (let member = 0; member < 6; member++) {
              const drawn = gaussian(i + 1, antithetic ? Math.floor(member / 2) : member, name, size);
              const sign = antithetic && member % 2 === 1 ? -1 : 1;
              for (let e = 0; e < size; e++) sums[e] += (0.02 / (6 * 0.05)) * fitness[member] * sign * drawn[e];
            }
            return sums;
          }),
        );
        const dot = (x: number[], y: number[]): number => x.reduce((sum, value, i) => sum + value * y[i], 0);
        const [first, second] = fitnesses.map((fitness, i) => streamsOf(generationOf(i + 1, { antithetic }), fitness));
        const before = await applyUpdate(arena, first, null);
        assert.equal(before.cosine, null);
        const bound = isDouble ? 1e-14 : 3e-6;
        assertClose(`${on}: first`, await values(arena), expected[0], { absolute: isDouble ? 1e-7 : bound });
        const update = await applyUpdate(arena, second, first);
        const length = (x: number[]): number => Math.sqrt(dot(x, x));
        assertClose(`${on}: norm`, [update.norm], [length(expected[1])], { relative: 10 * bound });
        assertClose(
          `${on}: cosine`,
          [update.cosine ?? Number.NaN],
          [dot(expected[0], expected[1]) / length(expected[0]) / length(expected[1])],
          { absolute: 20 * bound },
        );
        const still = await values(arena);
        const none = await applyUpdate(arena, streamsOf(generationOf(3), [0, 0, 0, 0, 0, 0]), second);
        assert.deepEqual(none, { norm: 0, cosine: null });
        assert.deepEqual(await values(arena), still, on);
        if (!isDouble)
          await throwsMessage(
            () => applyUpdate(arena, [{ ...first[0], coefficient: 1e30 }], null),
            "the step of a.weight is not a finite number",
          );
        arena.free();
      }
  });

  test("members are θ ± σ·ε of their pair, and a quadratic is descended", async () => {
    const target = 0.5;
    const arena = new ParameterArena(reference, shapes, { dtype: "f64" });
    const lossOf = (of: number[]): number => of.reduce((sum, value) => sum + (value - target) ** 2, 0);
    const began = lossOf(await values(arena));
    for (let step = 1; step <= 150; step++) {
      const generation = generationOf(step, { population: 16, antithetic: true, learningRate: 0.01 });
      const theta = await values(arena);
      const rewards = Array.from({ length: 16 }, (_, member) => {
        const move = stepToMember(generation, member);
        assert.ok(move.kind === "gaussian");
        assert.equal(move.coefficient, member % 2 === 0 ? 0.05 : -0.05);
        const drawn = [...shapes].flatMap(([name, { shape }]) => [
          ...directionNormals(
            move.key,
            wordsOf(name),
            shape.reduce((a, b) => a * b, 1),
          ),
        ]);
        return -lossOf(theta.map((value, e) => value + move.coefficient * drawn[e]));
      });
      await applyUpdate(arena, streamsOf(generation, fitnessOf("z-score", rewards)), null);
    }
    const ended = lossOf(await values(arena));
    assert.ok(ended < 0.05 * began, `${began} → ${ended}`);
    arena.free();
  });
});

async function values(arena: ParameterArena): Promise<number[]> {
  const read = await arena.read();
  return arena.names.flatMap((name) => [...(read.get(name) as NumberArray)]);
}
