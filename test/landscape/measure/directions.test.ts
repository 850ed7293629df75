import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CpuBackend } from "../../../engine/backends/cpu.ts";
import { resolveSettings } from "../../../engine/host/index.ts";
import { ParameterArena } from "../../../engine/index.ts";
import { directionNormals, philoxKey, wordsOf } from "../../../engine/random.ts";
import { normRules } from "../../../landscape/direction-settings.ts";
import type { Direction } from "../../../landscape/measure/directions/direction.ts";
import { innerProducts } from "../../../landscape/measure/directions/direction.ts";
import { orthogonalise, type RawDirection, scaleDirection } from "../../../landscape/measure/directions/norm-rules.ts";
import { adamwDirection, objectiveGradient } from "../../../landscape/measure/directions/objective-gradient.ts";
import {
  componentTensor,
  principalComponents,
  symmetricEigen,
} from "../../../landscape/measure/directions/trajectory.ts";
import { type DirectionJob, makeDirections, makeSlice, stepsTo } from "../../../landscape/measure/directions.ts";
import { expectSweepMemory } from "../../../landscape/measure/memory-plan.ts";
import { PerturbedWeights } from "../../../landscape/measure/perturbed-weights.ts";
import type { Reference } from "../../../landscape/measure/reference.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { loadChat, loadModel, loadTokenizer, writeSafetensors } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { normals } from "../../engine/check-op.ts";
import { readSafetensorsFixture } from "../../fixture-tensors.ts";
import { assertClose, describe, fixturePath, readFixture, throwsMessage } from "../../support.ts";

type Nested = readonly (number | readonly number[])[];
type Tensors = Readonly<Record<string, Nested>>;

interface Known {
  shapes: Record<string, number[]>;
  weights: Tensors;
  first: Tensors;
  second: Tensors;
  usedRows: number[];
  rules: Record<string, Tensors>;
  orthogonal: number[];
  trajectory: Tensors[];
  variance: number[];
  components: number[][];
  adamw: {
    gradient: number[];
    norm: number;
    moment1: number[];
    moment2: number[];
    beta1: number;
    beta2: number;
    epsilon: number;
    maxGradientNorm: number;
    steps: { updates: number; direction: number[] }[];
  };
  rankOne: { seed: number; slice: number; axis: string; tensor: string; product: number[][]; scaled: number[][] };
}

const known = readFixture<Known>("directions.json");
const names = Object.keys(known.shapes);
const folder = fixturePath("qwen2-tiny");

/** An arena of the fixture's weights in float64. */
function knownArena(): ParameterArena {
  const entries = new Map(names.map((name) => [name, { shape: known.shapes[name] }]));
  const arena = new ParameterArena(new CpuBackend(), entries, { dtype: "f64" });
  for (const name of names) arena.load(name, known.weights[name].flat());
  return arena;
}

const given = (of: Tensors): RawDirection => ({ key: null, write: (name, into) => into.write(of[name].flat()) });

/** A direction's numbers, factor included. */
async function numbersOf(direction: Direction, name: string, size: number): Promise<number[]> {
  const one = direction.get(name);
  if (one === undefined) return new Array<number>(size).fill(0);
  const plain = one.kind === "explicit" ? await one.tensor.read() : directionNormals(one.key, wordsOf(name), size);
  return Array.from(plain, (value) => one.scale * value);
}

function settingsWith(values: Record<string, unknown>): StudySettings {
  const usual = {
    "train.steps": 3,
    "train.checkpoints": [0, 3],
    "landscape.steps": [0],
    "landscape.radius": 0.1,
    "landscape.reference.prompts": 2,
  };
  const all = Object.entries({ ...usual, ...values }).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given: all, problems: [] }]);
}

interface LandscapeFixture {
  sequences: { group: number; ids: number[]; mask: number[]; advantage: number }[];
  norms: Record<string, { weight: number; delta: number; eta: number }>;
  slope: [number, number];
}

/** The completions of landscape.json as a reference; the fields that no direction reads are empty. */
function knownReference({ sequences }: LandscapeFixture): Reference {
  const groups = new Set(sequences.map(({ group }) => group)).size;
  const perPrompt = sequences.length / groups;
  const sorted = [...sequences].sort((a, b) => a.group - b.group);
  return {
    set: { tokens: [], reward: [], advantage: [] },
    rollouts: sorted.map(({ ids, mask }) => ({
      ...{ episode: 0, rollout: 0, point: 0, messages: [], logProbs: [], entropySum: 0 },
      ...{ isTruncated: false, isLastTruncated: false, reward: 0, parts: {}, failure: null },
      ...{ ids, mask, tokens: mask.reduce((sum, one) => sum + one, 0) },
    })),
    prompts: groups,
    rolloutsPerPrompt: perPrompt,
    advantages: sorted.map(({ advantage }) => advantage),
    parts: [],
  };
}

const landscape = readFixture<LandscapeFixture>("landscape.json");

/** A job on qwen2-tiny; `said` gets the lines for the user. */
async function jobOf(values: Record<string, unknown>, said: string[] = [], step = 0): Promise<DirectionJob> {
  const { backend } = await webgpuBackend();
  const { config, weights } = await loadModel(backend, folder);
  return {
    ...{ arena: weights, config, settings: settingsWith(values), slice: 0, reference: knownReference(landscape) },
    place: { step, trajectory: [0, 3], state: "nowhere", folderOf: () => fixturePath("tiny-warm-start") },
    say: (line) => said.push(line),
  };
}

/** Of qwen2-tiny's names and shapes, seed 1, slice 0; computed by the version before directions could be chosen. */
const usualDigest = "b031aea3c1f88de20911d8312693e35cfe570cbed38c542cc6eab80f3f8edc99";

const axis = (name: "delta" | "eta", of: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(of).map(([key, value]) => [`landscape.directions.${name}.${key}`, value]));

describe("landscape/measure/directions", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-directions-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("every norm rule, against numpy", async () => {
    const arena = knownArena();
    const isUsed = (name: string, row: number): boolean => !name.includes("embed") || known.usedRows.includes(row);
    for (const rule of normRules) {
      const { direction, squares } = await scaleDirection(given(known.first), rule, {
        arena,
        names,
        isUsed,
        label: "delta",
      });
      for (const name of names) {
        const expected = known.rules[rule][name].flat();
        const found = await numbersOf(direction, name, expected.length);
        assertClose(`${rule}: ${name}`, found, expected, { absolute: 1e-13 });
        const square = expected.reduce((sum, value) => sum + value * value, 0);
        assertClose(`${rule}: ‖${name}‖²`, [squares.get(name) ?? Number.NaN], [square], { relative: 1e-12 });
      }
    }
  });

  test("Gram–Schmidt, against numpy's QR; parallel directions are refused", async () => {
    const arena = knownArena();
    const context = { arena, names, label: "delta" };
    const delta = await scaleDirection(given(known.first), "tensor", context);
    const eta = await scaleDirection(given(known.second), "none", context);
    const made = await orthogonalise(arena, delta, eta, false);
    const found = await Promise.all(
      names.map((name) => numbersOf(made.direction, name, known.weights[name].flat().length)),
    );
    assertClose("η′", found.flat(), known.orthogonal, { absolute: 1e-12 });
    const products = [...(await innerProducts(arena, delta.direction, made.direction)).values()];
    assertClose("⟨δ, η′⟩", [products.reduce((sum, one) => sum + one, 0)], [0], { absolute: 1e-11 });
    const again = await scaleDirection(given(known.first), "tensor", context);
    await throwsMessage(() => orthogonalise(arena, delta, again, false), "delta and eta are parallel");
  });

  test("principal components and their shares, against numpy's SVD", async () => {
    const points = known.trajectory.map((tensors) => ({
      async *chunks(name: string, elements = 3) {
        const values = tensors[name].flat();
        // Pieces that no tensor's size is a multiple of.
        const step = Math.min(elements, 3);
        for (let start = 0; start < values.length; start += step)
          yield { start, data: Float32Array.from(values.slice(start, start + step)) };
      },
    }));
    const found = await principalComponents(points, names);
    assertClose("shares", found.shares, known.variance, { absolute: 1e-12 });
    for (const [c, expected] of known.components.entries()) {
      const tensors = await Promise.all(
        names.map((name) => componentTensor(points, found, c, name, known.weights[name].flat().length)),
      );
      assertClose(
        `component ${c + 1}`,
        tensors.flatMap((one) => [...one]),
        expected,
        { absolute: 1e-9 },
      );
    }
    const twice = await principalComponents([points[0], points[0], points[1]], names);
    assertClose("two distinct checkpoints", twice.shares, [1, 0], { absolute: 1e-12 });
    await throwsMessage(() => componentTensor(points, twice, 1, names[0], 44), "no principal component 2");
  });

  test("eigenvectors of a symmetric matrix are orthonormal and diagonalise it", () => {
    for (const n of [1, 2, 3, 9]) {
      const random = normals(n, n * n);
      const a = Array.from({ length: n }, (_, i) =>
        Float64Array.from({ length: n }, (__, j) => random[Math.min(i, j) * n + Math.max(i, j)]),
      );
      const { values, vectors } = symmetricEigen(a);
      for (let p = 0; p < n; p++)
        for (let q = 0; q < n; q++) {
          let [inner, form] = [0, 0];
          for (let i = 0; i < n; i++) {
            inner += vectors[i][p] * vectors[i][q];
            for (let j = 0; j < n; j++) form += vectors[i][p] * a[i][j] * vectors[j][q];
          }
          assertClose(`${n}: ${p}, ${q}`, [inner, form], p === q ? [1, values[p]] : [0, 0], { absolute: 1e-13 * n });
        }
    }
  });

  test("AdamW's direction, with moments and without, against torch", async () => {
    const { gradient, norm, moment1, moment2, steps, ...settings } = known.adamw;
    for (const { updates, direction } of steps) {
      const before = updates === 0 ? null : { updates, read: async () => ({ moment1, moment2 }) };
      const found = await adamwDirection("x", gradient, norm, settings, before);
      assertClose(`after ${updates} updates`, found, direction, { relative: 1e-9, absolute: 1e-12 });
    }
  });

  test("the gradient of J on the plain backend in float64: its slope along two directions is torch's", async () => {
    const { config, weights } = await loadModel(new CpuBackend(), folder, { dtype: "f64" });
    const train = { ...settingsWith({}).train, normalisation: "group-token" as const };
    const before = await weights.read();
    const job = { config, arena: weights, reference: knownReference(landscape), train, maxTokens: 40 };
    const gradient = await objectiveGradient(job);
    const stored = await readSafetensorsFixture("landscape.safetensors");
    for (const [k, direction] of (["delta", "eta"] as const).entries()) {
      let slope = 0;
      for (const name of weights.names) {
        const own = await gradient.arena.gradient(name).read();
        const d = stored.get(`${direction}.${name}`)?.values ?? [];
        const scale = landscape.norms[name].weight / landscape.norms[name][direction];
        for (let i = 0; i < own.length; i++) slope += own[i] * scale * Number(d[i]);
      }
      assertClose(direction, [slope], [landscape.slope[k]], { relative: 1e-9 });
    }
    for (const [name, values] of await weights.read()) assert.deepEqual(values, before.get(name), name);
    gradient.free();
    const even = { ...job, reference: { ...job.reference, advantages: job.reference.advantages.map(() => 0) } };
    await throwsMessage(() => objectiveGradient(even), "The gradient of J is 0");
  });

  test("a rank-1 direction is the outer product of two streams, at the norm of its matrix", async () => {
    const job = await jobOf(axis("eta", { kind: "rank-1" }));
    const slice = await makeDirections(job);
    for (const [name, values] of await job.arena.read()) {
      const { shape } = job.arena.value(name);
      const found = await numbersOf(slice.eta, name, values.length);
      const key = philoxKey(`direction|${job.settings.landscape.seed}|0|eta|rank-1`);
      const [u, v] = [
        directionNormals(key, wordsOf(`${name}|out`), shape[0]),
        directionNormals(key, wordsOf(`${name}|in`), shape[1] ?? 0),
      ];
      const plain =
        shape.length === 2
          ? Array.from(values, (_, i) => u[Math.floor(i / shape[1])] * v[i % shape[1]])
          : [...directionNormals(key, wordsOf(name), values.length)];
      const length = (of: ArrayLike<number>): number =>
        Math.sqrt(Array.from(of).reduce((sum, one) => sum + one * one, 0));
      const scale = length(values) / length(plain);
      assertClose(
        name,
        found,
        plain.map((value) => scale * value),
        { absolute: 2e-5 * scale },
      );
    }
    slice.free();
    const { tensor, product, scaled } = known.rankOne;
    const [rows, columns] = [product.length, product[0].length];
    const key = philoxKey(`direction|${known.rankOne.seed}|${known.rankOne.slice}|${known.rankOne.axis}|rank-1`);
    const [u, v] = [
      directionNormals(key, wordsOf(`${tensor}|out`), rows),
      directionNormals(key, wordsOf(`${tensor}|in`), columns),
    ];
    assertClose(
      "python",
      Array.from(u).flatMap((left) => Array.from(v, (right) => left * right)),
      product.flat(),
      { absolute: 1e-12 },
    );
    const arena = knownArena();
    const raw = given({ [tensor]: product });
    const { direction } = await scaleDirection(raw, "tensor", { arena, names: [tensor], label: "eta" });
    assertClose("numpy", await numbersOf(direction, tensor, rows * columns), scaled.flat(), { absolute: 1e-12 });
  });

  test("without settings it is two Gaussians: digest, factors and slots as ever", async () => {
    const job = await jobOf({});
    const [made, plain] = [await makeDirections(job), await makeSlice(job.arena, job.settings.landscape.seed, 0)];
    assert.equal(made.digest, plain.digest);
    assert.equal(made.digest, usualDigest);
    assert.deepEqual([...made.delta, ...made.eta], [...plain.delta, ...plain.eta]);
    const { delta, eta, cosine } = made.facts;
    for (const { shares } of [delta, eta])
      assertClose("shares", [Object.values(shares).reduce((sum, one) => sum + one, 0)], [1], { absolute: 1e-12 });
    let [inner, left, right] = [0, 0, 0];
    for (const name of job.arena.names) {
      const [d, e] = await Promise.all(
        [made.delta, made.eta].map((of) => numbersOf(of, name, job.arena.value(name).size)),
      );
      d.forEach((value, i) => {
        inner += value * e[i];
        left += value * value;
        right += e[i] * e[i];
      });
    }
    assertClose("cosine and length", [cosine, delta.length], [inner / Math.sqrt(left * right), Math.sqrt(left)], {
      absolute: 1e-5,
    });
  });

  test("no two tensors share noise, nor do axes, seeds, slices, kinds or, if asked for, checkpoints", async () => {
    const first = new Map<string, string>();
    for (const [values, step] of [
      [{}, 0],
      [{ "landscape.seed": 2 }, 0],
      [{ ...axis("delta", { kind: "rank-1" }), ...axis("eta", { norm: "row" }), "landscape.seed": 3 }, 0],
      [{ "landscape.directions.noise": "per-checkpoint" }, 0],
      [{ "landscape.directions.noise": "per-checkpoint" }, 3],
      [{ "landscape.centre.random": 0.1, "landscape.seed": 4 }, 0],
    ] as const) {
      const job = await jobOf(values, [], step);
      const slice = await makeDirections(job);
      for (const [label, direction] of [
        ["delta", slice.delta],
        ["eta", slice.eta],
        ["centre", slice.centre.third ?? new Map()],
      ] as const)
        for (const name of direction.keys()) {
          const [a, b] = (await numbersOf(direction, name, job.arena.value(name).size)).slice(0, 2);
          const noise = (a / b).toPrecision(5); // the same for any norm
          const where = `${JSON.stringify(values)} step ${step} ${label} ${name}`;
          assert.equal(first.get(noise), undefined, `${where} has the noise of ${first.get(noise)}`);
          first.set(noise, where);
        }
      slice.free();
    }
    const [one, other] = [await makeDirections(await jobOf({}, [], 0)), await makeDirections(await jobOf({}, [], 3))];
    assert.equal(one.digest, other.digest, "shared noise is the same at every checkpoint");
  });

  test("the digest changes with kind, norm rule, groups, noise, angle and centre", async () => {
    const changes: Record<string, unknown>[] = [
      {},
      axis("delta", { kind: "rank-1" }),
      axis("eta", { kind: "rank-1" }),
      axis("delta", { norm: "global" }),
      axis("delta", { norm: "row" }),
      axis("delta", { norm: "used-row" }),
      axis("delta", { norm: "none" }),
      { "landscape.directions.groups": ["attention", "mlp"] },
      { "landscape.directions.leaveOut": ["model.layers.0.*"] },
      { "landscape.directions.noise": "per-checkpoint" },
      { "landscape.directions.orthogonal": true },
      { "landscape.centre.alpha": 1 },
      { "landscape.centre.random": 0.5 },
      axis("delta", { kind: "gradient" }),
      axis("delta", { kind: "adamw-gradient" }),
      axis("delta", { kind: "rank-1", norm: "global" }),
      { ...axis("delta", { kind: "rank-1" }), "landscape.seed": 9 },
    ];
    const digests = new Map<string, string>();
    for (const change of changes) {
      const slice = await makeDirections(await jobOf(change));
      assert.equal(
        digests.get(slice.digest),
        undefined,
        `${JSON.stringify(change)} has the digest of ${digests.get(slice.digest)}`,
      );
      digests.set(slice.digest, JSON.stringify(change));
      if ("landscape.directions.orthogonal" in change)
        assert.ok(Math.abs(slice.facts.cosine) < 2e-6, `${slice.facts.cosine}`);
      slice.free();
    }
  });

  test("groups and names: what is left out does not move, and its share is not listed", async () => {
    const job = await jobOf({
      "landscape.directions.groups": ["attention", "mlp"],
      "landscape.directions.leaveOut": ["model.layers.0.*"],
    });
    const slice = await makeDirections(job);
    assert.deepEqual(Object.keys(slice.facts.delta.shares).sort(), ["attention", "mlp"]);
    for (const name of job.arena.names) {
      const moves = /_proj\.weight$/.test(name) && !name.startsWith("model.layers.0.");
      assert.equal(slice.delta.has(name), moves, name);
      assert.equal(stepsTo({ alpha: 1, beta: 1 }, slice, name).length, moves ? 2 : 0, name);
    }
    const slots = new PerturbedWeights(job.arena, 1);
    slots.place([{ i: 0, j: 0, alpha: 0.1, beta: 0.1, squaredSteps: 0 }], slice);
    const norm = slots.get("model.norm.weight");
    const moved = norm.kind === "slots" ? await norm.slots.get(0)?.rows?.read() : undefined;
    assert.deepEqual(moved, await job.arena.value("model.norm.weight").read());
    slots.free();
    const none = await jobOf({
      "landscape.directions.leaveOut": ["model.*"],
      "landscape.directions.groups": ["norms"],
    });
    await throwsMessage(() => makeDirections(none), "leave no parameter that moves");
    const idle = await jobOf({ "landscape.directions.leaveOut": ["model.layer.*"] });
    await throwsMessage(() => makeDirections(idle), '"model.layer.*" matches no parameter of this model');
  });

  test("used-row: rows of the tied embedding that no token of the task uses stay, and the others have their norm", async () => {
    const job = await jobOf(axis("delta", { norm: "used-row" }));
    const usedIds = new Set([0, 5, 17]);
    const slice = await makeDirections({ ...job, usedIds });
    for (const name of ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"]) {
      const { shape, size } = job.arena.value(name);
      const weight = (await job.arena.read([name])).get(name) ?? [];
      const moved = await numbersOf(slice.delta, name, size);
      const lengthOf = (of: ArrayLike<number>, row: number): number =>
        Math.hypot(...Array.from({ length: shape[1] }, (_, c) => of[row * shape[1] + c]));
      for (let row = 0; row < shape[0]; row++) {
        const isUsed = !name.includes("embed") || usedIds.has(row);
        assertClose(`${name}, row ${row}`, [lengthOf(moved, row)], [isUsed ? lengthOf(weight, row) : 0], {
          relative: 1e-5,
        });
      }
    }
    slice.free();
  });

  test("a state-dict file: its numbers, and one error for what does not fit", async () => {
    const said: string[] = [];
    const path = join(place, "direction.safetensors");
    const job = await jobOf({ ...axis("delta", { kind: "file", file: path, norm: "none" }) }, said);
    const tensors = job.arena.names.map((name, i) => {
      const { shape, size } = job.arena.value(name);
      return { name, dtype: "f32" as const, shape, data: Float32Array.from(normals(i + 1, size)) };
    });
    const spare = { name: "spare", dtype: "f32" as const, shape: [2], data: new Float32Array(2) };
    await writeSafetensors(path, [...tensors, spare]);
    const slice = await makeDirections(job);
    for (const { name, data } of tensors)
      assert.deepEqual(await numbersOf(slice.delta, name, data.length), [...data], name);
    assert.match(said.join(), /1 of its tensors are no weights that move, and are not used: spare/);
    slice.free();
    const [first, second, ...rest] = tensors;
    await writeSafetensors(path, [{ ...second, shape: [second.data.length] }, ...rest]);
    await throwsMessage(
      () => makeDirections(job),
      `is no direction for this model (landscape.directions.delta.file)`,
      `"${second.name}" is [${second.data.length}], the weight is [${second.shape}]`,
      `"${first.name}" [${first.shape}] is missing`,
    );
    const broken = { ...first, data: first.data.map((value, i) => (i === 3 ? Number.NaN : value)) };
    await writeSafetensors(path, [broken, second, ...rest]);
    await throwsMessage(() => makeDirections(job), `${first.name} has a number that is not finite`);
    await writeSafetensors(
      path,
      tensors.map((one) => ({ ...one, data: new Float32Array(one.data.length) })),
    );
    await throwsMessage(() => makeDirections(job), "landscape.directions.delta: the direction is 0");
    const absent = await jobOf({ ...axis("delta", { kind: "file", file: join(place, "absent") }) });
    await throwsMessage(() => makeDirections(absent), "expected a safetensors file or a folder of them, there is none");
  });

  test("the difference of two checkpoints, as it is: α = 1 is the other checkpoint", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("tiny-warm-start"));
    // The other checkpoint is the embedded tiny model, of the same shapes.
    const other = new URL("../../../rl/presets/tiny/checkpoint", import.meta.url).pathname;
    const { weights: expected } = await loadModel(backend, other);
    const settings = settingsWith({ ...axis("delta", { kind: "checkpoint-difference", norm: "none", stepsAhead: 3 }) });
    const slice = await makeDirections({
      ...{ arena: weights, config, settings, slice: 0, reference: knownReference(landscape), say: () => {} },
      place: {
        step: 0,
        trajectory: [0, 3],
        state: "",
        folderOf: (step) => (step === 3 ? other : fixturePath("tiny-warm-start")),
      },
    });
    const slots = new PerturbedWeights(weights, 1);
    slots.place([{ i: 0, j: 0, alpha: 1, beta: 0, squaredSteps: 0 }], slice);
    for (const [name, values] of await expected.read()) {
      const parameter = slots.get(name);
      const rows = parameter.kind === "slots" ? parameter.slots.get(0)?.rows : undefined;
      if (rows) assertClose(name, await rows.read(), values, { absolute: 2 ** -23 });
    }
    slots.free();
    slice.free();
    weights.free();
    expected.free();
  });

  test("a grid beside the checkpoint: the checkpoint is where the shift is undone, bit for bit", async () => {
    const job = await jobOf({
      "landscape.centre.alpha": 1,
      "landscape.centre.beta": -0.5,
      ...axis("eta", { kind: "gradient" }),
    });
    const slice = await makeDirections(job);
    const slots = new PerturbedWeights(job.arena, 1);
    slots.place([{ i: 0, j: 0, alpha: -0.1, beta: 0.05, squaredSteps: 0 }], slice);
    const at = slots.get("model.norm.weight");
    const moved = at.kind === "slots" ? await at.slots.get(0)?.rows?.read() : undefined;
    assert.deepEqual(moved, await job.arena.value("model.norm.weight").read());
    slots.free();
    slice.free();
  });

  test("a grid's centre along a third direction is at the given distance in every tensor", async () => {
    const job = await jobOf({ "landscape.centre.random": 0.25 });
    const slice = await makeDirections(job);
    const slots = new PerturbedWeights(job.arena, 1);
    slots.place([{ i: 0, j: 0, alpha: 0, beta: 0, squaredSteps: 0 }], slice);
    for (const [name, values] of await job.arena.read()) {
      const at = slots.get(name);
      const moved = at.kind === "slots" ? await at.slots.get(0)?.rows?.read() : undefined;
      if (moved === undefined) continue; // a matrix in panels alone
      const length = (of: ArrayLike<number>): number => Math.hypot(...Array.from(of));
      const distance = length(values.map((value, i) => moved[i] - value)) / length(values);
      assertClose(name, [distance], [0.25], { relative: 1e-5 });
    }
    slots.free();
    slice.free();
  });

  test("adamw-gradient without a saved state says so", async () => {
    const said: string[] = [];
    const slice = await makeDirections(await jobOf(axis("delta", { kind: "adamw-gradient" }), said));
    assert.match(said.join(), /no optimiser state of this step, so AdamW's moments begin at 0/);
    assert.equal(slice.facts.delta.remark, "without saved moments of step 0");
    slice.free();
  });

  test("the plan of a sweep counts directions that are tensors, and the gradients that some are made from", async () => {
    const { backend } = await webgpuBackend();
    const checkpoint = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, checkpoint);
    const bytes = weights.names.reduce((sum, name) => sum + 4 * weights.value(name).size, 0);
    weights.free();
    const chat = await loadChat(checkpoint, await loadTokenizer(checkpoint));
    const planned = async (values: Record<string, unknown>) => {
      const settings = settingsWith({
        "landscape.points": 3,
        "landscape.maxNewTokens": 8,
        "landscape.pointsAtOnce": 1,
        ...values,
      });
      const environment = await openEnvironment(settings.environment);
      const never = new AbortController().signal;
      const { parts, deviceBytes } = await expectSweepMemory(
        backend,
        { config, chat, environment, settings },
        never,
        false,
      );
      return { directions: parts.get("directions") ?? 0, deviceBytes };
    };
    const usual = await planned({});
    assert.equal(usual.directions, 0);
    assert.equal(
      (await planned(axis("eta", { norm: "global" }))).directions,
      0,
      "a Gaussian of the rule global is none",
    );
    const one = await planned(axis("eta", { kind: "rank-1" }));
    const two = await planned({
      ...axis("eta", { kind: "rank-1" }),
      ...axis("delta", { kind: "checkpoint-difference", stepsAhead: 3 }),
    });
    // Buffers of the pool are larger than tensors, which are of any size.
    for (const [found, axes] of [
      [one.directions, 1],
      [two.directions, 2],
    ])
      assert.ok(found >= axes * bytes && found <= 2 * axes * bytes, `${found} bytes for ${axes} × ${bytes}`);
    assert.ok(two.deviceBytes > one.deviceBytes && one.deviceBytes > usual.deviceBytes);
    const gradient = await planned(axis("eta", { kind: "gradient" }));
    assert.ok(gradient.deviceBytes >= one.deviceBytes, "beside the direction there are gradients for a while");
    const few = { "landscape.directions.groups": ["norms", "biases"], ...axis("eta", { kind: "rank-1" }) };
    assert.ok((await planned(few)).directions < 0.2 * bytes, "only what moves has tensors");
  });

  test("settings that fit no direction are refused, each by name", async () => {
    const refused = (values: Record<string, unknown>, ...texts: string[]): Promise<unknown> =>
      throwsMessage(() => settingsWith(values), ...texts);
    await refused(
      { "landscape.directions.groups": ["attn"] },
      "landscape.directions.groups: expected some of embedding, attention",
    );
    await refused(axis("delta", { kind: "file" }), "landscape.directions.delta.file: kind file needs the path");
    await refused(
      axis("eta", { kind: "pca", component: 2 }),
      "2 checkpoints (train.checkpoints) have 1 principal components, got 2",
    );
    await refused(
      axis("delta", { kind: "checkpoint-difference", stepsAhead: 2 }),
      "from step 0 it leads to step 2, which has no checkpoint",
    );
    await refused(
      { ...axis("delta", { kind: "gradient" }), ...axis("eta", { kind: "gradient", norm: "row" }) },
      "they span no plane",
    );
    await refused(
      { ...axis("delta", { kind: "gradient" }), ...axis("eta", { kind: "adamw-gradient" }), "landscape.slices": 2 },
      "neither direction is random, so 2 slices would be the same",
    );
  });
});
