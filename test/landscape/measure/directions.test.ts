import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { directionNormals, philoxKey, wordsOf } from "../../../engine/random.ts";
import { withoutMoments } from "../../../landscape/measure/directions/kinds.ts";
import { scaleDirection } from "../../../landscape/measure/directions/norm-rules.ts";
import { expectDirections, makeDirections, makeSlice, stepsTo } from "../../../landscape/measure/directions.ts";
import { expectSweepMemory } from "../../../landscape/measure/memory-plan.ts";
import { PerturbedWeights } from "../../../landscape/measure/perturbed-weights.ts";
import { loadChat, loadModel, loadTokenizer, writeSafetensors } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { normals } from "../../engine/check-op.ts";
import { assertClose, describe, fixturePath, throwsMessage } from "../../support.ts";
import { axis, jobOf, knownReference, landscape, numbersOf, settingsWith } from "./direction-jobs.ts";
import { given, known, knownArena } from "./known-directions.ts";

/** Of qwen2-tiny's names and shapes, seed 1, slice 0; computed by the version before directions could be chosen. */
const usualDigest = "b031aea3c1f88de20911d8312693e35cfe570cbed38c542cc6eab80f3f8edc99";

describe("landscape/measure/directions", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-directions-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

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
    const expected = (): Promise<void> => expectDirections(job.config, job.settings.landscape);
    for (const refused of [() => makeDirections(job), expected])
      await throwsMessage(refused, `${first.name} has a number that is not finite`);
    await writeSafetensors(
      path,
      tensors.map((one) => ({ ...one, data: new Float32Array(one.data.length) })),
    );
    for (const refused of [() => makeDirections(job), expected])
      await throwsMessage(refused, "landscape.directions.delta: the direction is 0");
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
    assert.match(
      withoutMoments(20, "evolve"),
      /step 20: evolution strategies .* no optimiser state has moments .*begin at 0/,
    );
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
