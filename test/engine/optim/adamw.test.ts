import assert from "node:assert/strict";
import type { Backend } from "../../../engine/backends/backend.ts";
import { type AdamwSettings, adamwStep } from "../../../engine/optim/adamw.ts";
import { ParameterArena } from "../../../engine/parameter-arena.ts";
import { fromArray, type Shape, sizeOf } from "../../../engine/tensor.ts";
import { reference, testBackends } from "../../backends.ts";
import { readSafetensorsFixture } from "../../fixture-tensors.ts";
import { assertClose, assertKnown, describe, readFixture, type Tolerance, throwsMessage } from "../../support.ts";
import { normals, sameBits } from "../check-op.ts";

interface AdamwFixture {
  learningRate: number;
  betas: [number, number];
  eps: number;
  weightDecay: number;
  maxGradientNorm: number;
  steps: number;
  shapes: Shape[];
  gradientNorms: { f64: number[]; f32: number[] };
}

const usual: AdamwSettings = {
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
};

/** More than one buffer at 16 KiB, tensors cut and whole, odd sizes, one with a copy for the forward product. */
const shapes = new Map<string, Shape>([
  ["cut", [150, 64]],
  ["odd", [7, 13]],
  ["matrix", [24, 40]],
  ["long", [4099]],
  ["one", [1]],
]);

function makeArena(backend: Backend, from: ReadonlyMap<string, Shape>, dtype: "f32" | "f64" = "f32"): ParameterArena {
  const entries = new Map([...from].map(([name, shape]) => [name, { shape, forwardCopy: name === "matrix" }]));
  return new ParameterArena(backend, entries, { trainable: true, dtype });
}

/** Gives a tensor its gradient, as a backward pass would. */
function setGradient(arena: ParameterArena, name: string, values: ArrayLike<number>): void {
  arena.load(name, values, "gradients");
  arena.gradients.mark(arena.value(name));
}

/** An arena with numbers in it after one good step, so that moments are not zero. */
async function startedArena(backend: Backend, dtype: "f32" | "f64" = "f32"): Promise<ParameterArena> {
  const arena = makeArena(backend, shapes, dtype);
  arena.names.forEach((name, i) => {
    arena.load(name, normals(i + 1, arena.value(name).size));
    setGradient(arena, name, normals(i + 21, arena.value(name).size, 0.3));
  });
  await adamwStep(arena, { ...usual, step: 1 }).result();
  return arena;
}

describe("engine/optim/adamw", (test) => {
  test("six steps of torch.optim.AdamW", async () => {
    const fixture = readFixture<AdamwFixture>("adamw.json");
    const tensors = readSafetensorsFixture("adamw.safetensors");
    const settings = {
      learningRate: fixture.learningRate,
      beta1: fixture.betas[0],
      beta2: fixture.betas[1],
      epsilon: fixture.eps,
      weightDecay: fixture.weightDecay,
      maxGradientNorm: fixture.maxGradientNorm,
    };
    const known = (name: string): ArrayLike<number> => {
      const found = tensors.get(name);
      if (found === undefined) throw new Error(`adamw.safetensors has no ${name}`);
      return found.values;
    };
    const f64: Tolerance = { relative: 1e-7, absolute: 1e-15 };
    const yardstick = { name: "plain f64", backend: reference, dtype: "f64" as const };
    const others = (await testBackends()).map((found) => ({ ...found, dtype: "f32" as const }));
    for (const { name: where, backend, dtype } of [yardstick, ...others]) {
      const arena = makeArena(backend, new Map(fixture.shapes.map((shape, i) => [String(i), shape])), dtype);
      for (const name of arena.names) arena.load(name, known(`parameter.${name}`));
      for (let step = 1; step <= fixture.steps; step++) {
        arena.clearGradients();
        for (const name of arena.names) setGradient(arena, name, known(`gradient.${step}.${name}`));
        const { gradientNorm, finite } = await adamwStep(arena, { ...settings, step }).result();
        assert.equal(finite, true);
        const context = `step ${step}`;
        const exact = dtype === "f64";
        const norms = { relative: exact ? 1e-9 : 3e-5 };
        const expectedNorm = [fixture.gradientNorms.f64[step - 1]];
        assertKnown("adamw.json", "gradient norm", where, [gradientNorm], expectedNorm, norms, context);
        for (const name of arena.names) {
          for (const [quantity, tensor, absolute] of [
            ["parameter", arena.value(name), 2e-6],
            ["expAvg", arena.moment1(name), 5e-8],
            ["expAvgSq", arena.moment2(name), 3e-10],
          ] as const) {
            const expected = known(`f64.${quantity}.${step}.${name}`);
            const tolerance = exact ? f64 : { absolute };
            assertKnown("adamw.safetensors", quantity, where, await tensor.read(), expected, tolerance, context);
          }
        }
      }
      arena.free();
    }
  });

  test("every element of every buffer takes the same step as in float64", async () => {
    const run = async (backend: Backend, dtype: "f32" | "f64"): Promise<{ norms: number[]; arena: ParameterArena }> => {
      const arena = await startedArena(backend, dtype);
      const norms: number[] = [];
      for (let step = 2; step <= 4; step++) {
        // The norm is near 40, 4 and 0.4: two steps are clipped, one is not.
        for (const [i, name] of arena.names.entries())
          setGradient(arena, name, normals(31 * step + i, arena.value(name).size, 30 / 10 ** step));
        norms.push((await adamwStep(arena, { ...usual, step }).result()).gradientNorm);
      }
      return { norms, arena };
    };
    const expected = await run(reference, "f64");
    assert.ok(expected.norms[0] > 10 && expected.norms[2] < 1, String(expected.norms));
    for (const { name: where, backend } of await testBackends()) {
      const before = backend.statistics().liveBuffers;
      const { norms, arena } = await run(backend, "f32");
      // Chunks of positive terms: 8 + 2 + 8 additions each, at most 2 + 8 more over the chunks, halved by the root.
      assertClose(`${where}: norms`, norms, expected.norms, { relative: 14 * 2 ** -24 });
      for (const name of arena.names) {
        assertClose(`${where}: ${name}`, await arena.value(name).read(), await expected.arena.value(name).read(), {
          absolute: 2e-6,
        });
        assertClose(
          `${where}: ${name}: m`,
          await arena.moment1(name).read(),
          await expected.arena.moment1(name).read(),
          { absolute: 5e-8 },
        );
        assertClose(
          `${where}: ${name}: v`,
          await arena.moment2(name).read(),
          await expected.arena.moment2(name).read(),
          { absolute: 3e-10 },
        );
      }
      const again = await run(backend, "f32");
      assert.deepEqual(again.norms, norms);
      for (const name of arena.names)
        sameBits(`${where}: ${name} twice`, await again.arena.value(name).read(), await arena.value(name).read());
      arena.free();
      again.arena.free();
      assert.equal(backend.statistics().liveBuffers, before, `${where}: buffers left behind`);
    }
    expected.arena.free();
  });

  test("sizes at which work is cut, huge and tiny gradients: the step of float64", async () => {
    const step = async (backend: Backend, dtype: "f32" | "f64", size: number, scale: number) => {
      const arena = makeArena(backend, new Map([["x", [size]]]), dtype);
      arena.load("x", normals(1, size));
      setGradient(arena, "x", normals(2, size, scale));
      const { gradientNorm } = await adamwStep(arena, { ...usual, step: 1 }).result();
      const x = await arena.value("x").read();
      arena.free();
      return { gradientNorm, x };
    };
    // A workgroup of the update takes 1024 elements, a chunk of the norm 8192, a buffer of 16 KiB 4096.
    for (const size of [1, 1021, 1024, 1025, 4096, 4097, 8192, 8193])
      for (const scale of [1, 1e12, 1e-12]) {
        const expected = await step(reference, "f64", size, scale);
        for (const { name: where, backend } of await testBackends()) {
          const what = `${where}: ${size} elements, gradients of ${scale}`;
          const { gradientNorm, x } = await step(backend, "f32", size, scale);
          assertClose(`${what}: norm`, [gradientNorm], [expected.gradientNorm], { relative: 14 * 2 ** -24 });
          assertClose(what, x, expected.x, { absolute: 2e-6 });
        }
      }
  });

  test("a gradient, norm or loss that is not finite leaves weights and moments as they are, and is named", async () => {
    const bad: Record<string, { gradient?: [string, number, number]; loss?: number; named: string | null }> = {
      "NaN in a cut tensor": { gradient: ["cut", 9599, Number.NaN], named: "cut" },
      "infinity in the last tensor": { gradient: ["one", 0, Number.NEGATIVE_INFINITY], named: "one" },
      "a square that overflows": { gradient: ["odd", 90, 3e19], named: "odd" },
      "a NaN loss": { loss: Number.NaN, named: null },
      "an infinite loss": { loss: Number.POSITIVE_INFINITY, named: null },
    };
    for (const { name: where, backend } of await testBackends()) {
      const arena = await startedArena(backend);
      const before = await arena.readState();
      const left = backend.statistics().liveBuffers;
      for (const [what, { gradient, loss = 1, named }] of Object.entries(bad)) {
        arena.names.forEach((name, i) => {
          const values = normals(i + 50, arena.value(name).size);
          if (name === gradient?.[0]) values[gradient[1]] = gradient[2];
          setGradient(arena, name, values);
        });
        const losses = [fromArray(backend, [2]), fromArray(backend, [loss])];
        const step = adamwStep(arena, { ...usual, step: 2, losses });
        assert.equal((await step.result()).finite, false, `${where}: ${what}`);
        assert.equal(await step.nameOfNonFinite(), named, `${where}: ${what}`);
        for (const [key, { data }] of await arena.readState())
          sameBits(`${where}: ${what}: ${key}`, data, before.get(key)?.data ?? new Float32Array());
        for (const tensor of losses) tensor.free();
      }
      for (const name of arena.names) setGradient(arena, name, normals(1, arena.value(name).size));
      assert.equal((await adamwStep(arena, { ...usual, step: 2 }).result()).finite, true);
      const moved = (await arena.read(["one"])).get("one") ?? [];
      assert.notEqual(moved[0], before.get("values.one")?.data[0], `${where}: the next good step moves the weights`);
      assert.equal(backend.statistics().liveBuffers, left, `${where}: buffers left behind`);
      arena.free();
    }
  });

  test("a tensor that no backward pass wrote has gradient zero", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = makeArena(backend, shapes);
      for (const [i, name] of arena.names.entries()) {
        arena.load(name, normals(i + 1, arena.value(name).size));
        arena.load(name, new Float32Array(arena.value(name).size).fill(Number.NaN), "gradients");
      }
      arena.clearGradients();
      setGradient(arena, "one", [-3]);
      const { gradientNorm, finite } = await adamwStep(arena, { ...usual, step: 1 }).result();
      assert.deepEqual([gradientNorm, finite], [3, true], where);
      for (const [i, name] of arena.names.entries()) {
        if (name === "one") continue;
        const decayed = Float64Array.from(normals(i + 1, arena.value(name).size), (v) => v * (1 - 1e-4));
        assertClose(`${where}: ${name}`, await arena.value(name).read(), decayed, { relative: 2 ** -23 });
      }
      arena.free();
    }
  });

  test("copies follow, what lies between tensors stays zero, and dispatches do not grow with tensors", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = await startedArena(backend);
      for (const [i, name] of arena.names.entries()) setGradient(arena, name, normals(i + 7, arena.value(name).size));
      const dispatches = backend.statistics().dispatches;
      await adamwStep(arena, { ...usual, step: 2 }).result();
      const used = backend.statistics().dispatches - dispatches;
      arena.valuesChanged();
      const copies = backend.statistics().dispatches - dispatches - used;
      assert.equal(used, 2 * arena.buffers("values").length + 1 + copies, where);

      const parameter = arena.get("matrix");
      assert.ok(parameter.kind === "tensor" && parameter.panels !== null);
      const [values, panels] = [await parameter.tensor.read(), await parameter.panels.read()];
      const [out, width] = parameter.tensor.shape;
      for (let o = 0; o < out; o++)
        for (let i = 0; i < width; i++)
          assert.equal(
            panels[(Math.floor(o / 8) * width + i) * 8 + (o % 8)],
            values[o * width + i],
            `${where}: copy of [${o}, ${i}]`,
          );

      for (const part of ["values", "moment1", "moment2"] as const) {
        for (const name of arena.names) arena.load(name, new Float32Array(sizeOf(arena.value(name).shape)), part);
        for (const buffer of arena.buffers(part))
          assert.ok(
            (await buffer.read()).every((v) => v === 0),
            `${where}: ${part}`,
          );
      }
      arena.free();
    }
  });

  test("no clipping at an infinite limit, no first moment at β1 = 0, and ε must be above 0", async () => {
    for (const { name: where, backend } of await testBackends()) {
      const arena = makeArena(backend, new Map([["a", [2]]]));
      arena.load("a", [1, -2]);
      setGradient(arena, "a", [300, -400]);
      const settings = { ...usual, weightDecay: 0, beta1: 0, maxGradientNorm: Number.POSITIVE_INFINITY };
      const { gradientNorm } = await adamwStep(arena, { ...settings, step: 1 }).result();
      assert.equal(gradientNorm, 500);
      // m / (1 − β1) = g and sqrt(v / (1 − β2)) = |g|: the first step has length lr.
      assertClose(where, await arena.value("a").read(), [0.99, -1.99], { absolute: 1e-6 });
      assertClose(where, await arena.moment1("a").read(), [300, -400], { relative: 2 ** -23 });
      await throwsMessage(() => adamwStep(arena, { ...settings, epsilon: 0, step: 2 }), "epsilon", "above 0");
      arena.free();
    }
  });
});
