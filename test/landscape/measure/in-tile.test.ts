// Weights of grid points that are made a tile at a time (`--landscape.weights in-tile`): the bytes of slots, in the memory of the
// checkpoint alone; and the plan's choice between the two.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Phase } from "../../../engine/host/index.ts";
import { noGradient, openBackend } from "../../../engine/index.ts";
import { slicePaths } from "../../../landscape/files/layout.ts";
import { settingsThatFit, sweepMemory } from "../../../landscape/measure/memory-plan.ts";
import { pointWeights } from "../../../landscape/measure/perturbed-weights.ts";
import { sweep } from "../../../landscape/measure/sweep.ts";
import { prepareReference } from "../../../landscape/measure/sweep-context.ts";
import type { StudySettings } from "../../../landscape/settings.ts";
import { loadChat, loadModel, loadTokenizer, makeWeights, qwen2Model, score } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { normals } from "../../engine/check-op.ts";
import { describe, fixturePath } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

function settingsWith(other: Readonly<Record<string, number | string>>): StudySettings {
  return settingsOf({
    "landscape.points": 3,
    "landscape.pointsAtOnce": 4,
    "landscape.maxNewTokens": 6,
    "landscape.reference.prompts": 2,
    "landscape.reference.rollouts": 2,
    "landscape.rollouts.prompts": 3,
    "landscape.rollouts.rollouts": 2,
    "batch.rows": 8,
    ...other,
  });
}

const still: Phase = { advance() {}, moveTo() {}, phase: () => still, done() {} };
const folder = fixturePath("tiny-warm-start");
const chat = await loadChat(folder, await loadTokenizer(folder));
const { signal } = new AbortController();

/** A model whose weights are most of what an evaluation needs. */
const large = qwen2Model({
  ...{ rmsNormEps: 1e-5, tieWordEmbeddings: true, maxPositionEmbeddings: 8192, eosTokenIds: [], vocabSize: 371 },
  ...{ hiddenSize: 256, intermediateSize: 768, numHiddenLayers: 8, numAttentionHeads: 8, numKeyValueHeads: 4 },
  ...{ headDim: 32, ropeTheta: 1e4 },
});

describe("landscape/measure/in-tile", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-in-tile-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  for (const precision of ["f32", "f16"] as const)
    test(`a sweep in ${precision} has the bytes of one with slots; at the origin KL is exactly 0`, async () => {
      const { backend } = await webgpuBackend();
      const { config, weights } = await loadModel(backend, folder, { forwardCopies: precision === "f32" });
      const cells: string[] = [];
      for (const kind of ["slots", "in-tile"] as const) {
        const settings = settingsWith({ "landscape.weights": kind, "landscape.precision": precision });
        const environment = await openEnvironment(settings.environment);
        const context = {
          ...{ model: { backend, config, weights }, chat, environment, settings, signal, say: () => {} },
          place: { step: 0, trajectory: [], state: "", folderOf: () => folder },
        };
        const into = join(place, `${precision}-${kind}`);
        await sweep(context, 0, into, await prepareReference(context, still), still, 0);
        cells.push(readFileSync(slicePaths(into).cells, "utf8"));
      }
      assert.is(cells[1], cells[0]);
      const records = cells[1]
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      assert.is(records.length, 9);
      for (const { i, j, reference } of records) {
        const isOrigin = i === 1 && j === 1;
        assert.ok(
          reference.kl.flat().every((kl: number) => (isOrigin ? kl === 0 : kl > 0)),
          `KL at ${i},${j}: ${reference.kl}`,
        );
      }
      weights.free();
    });

  test("an evaluation needs at most 5% more memory than one of the checkpoint", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    const arena = makeWeights(backend, large);
    arena.names.forEach((name, i) => {
      arena.load(
        name,
        normals(i + 1, arena.value(name).size).map((value) => value / 16),
      );
    });
    arena.refreshCopies();
    const sequences = [{ ids: Uint32Array.from({ length: 12 }, (_, t) => 5 * t + 1) }];
    const peakAfter = async (weights: Parameters<typeof score>[0]["weights"]): Promise<number> => {
      await noGradient(() => score({ backend, config: large, weights }, sequences, { temperature: 1, maxTokens: 64 }));
      return backend.statistics().peakBytes;
    };
    const own = await peakAfter(arena);
    const steps = [{ kind: "gaussian", key: [1, 2], coefficient: 0.01 }] as const;
    const inTile = pointWeights(arena, 1, { weights: "in-tile", precision: "f32" });
    inTile.placeAlong([() => steps]);
    const withTiles = await peakAfter(inTile);
    const slots = pointWeights(arena, 1, { weights: "slots", precision: "f32" });
    slots.placeAlong([() => steps]);
    const withSlots = await peakAfter(slots);
    assert.ok(withTiles <= 1.05 * own, `${withTiles} bytes, the checkpoint alone ${own}`);
    assert.ok(withSlots > 1.3 * own, `a slot is a second copy: ${withSlots} bytes, the checkpoint alone ${own}`);
    backend.destroy();
  });

  test("auto takes as many slots as fit, and none where not even one does", async () => {
    const { backend } = await webgpuBackend();
    const settings = settingsWith({});
    const job = { config: large, chat, environment: await openEnvironment(settings.environment), settings };
    const planned = (weights: string, pointsAtOnce: number, bytes: number | null) =>
      sweepMemory(
        backend,
        { ...job, settings: settingsWith({ "landscape.weights": weights, "landscape.pointsAtOnce": pointsAtOnce }) },
        signal,
        { limit: bytes === null ? null : { bytes, what: "here are" }, compiles: false, refusesHost: false },
      );
    const needs = async (weights: string, points: number): Promise<number> =>
      (await planned(weights, points, null)).totalBytes;
    const [four, two, one, none] = [
      await needs("slots", 4),
      await needs("slots", 2),
      await needs("slots", 1),
      await needs("in-tile", 1),
    ];
    assert.ok(none < one && one < two && two < four, `${none}, ${one}, ${two}, ${four} bytes`);
    const chosen = async (bytes: number | null) => {
      const { weights, pointsAtOnce, why, totalBytes } = await planned("auto", 4, bytes);
      assert.ok(bytes === null || totalBytes <= bytes);
      return { weights, pointsAtOnce, why };
    };
    for (const bytes of [null, four]) {
      const { weights, pointsAtOnce } = await chosen(bytes);
      assert.equal([weights, pointsAtOnce], ["slots", 4]);
    }
    const fewer = await chosen(four - 1);
    assert.equal([fewer.weights, fewer.pointsAtOnce], ["slots", 2]);
    assert.match(fewer.why, /2 slots .* because 4 do not fit/);
    const single = await chosen(two - 1);
    assert.equal([single.weights, single.pointsAtOnce], ["slots", 1]);
    const without = await chosen(one - 1);
    assert.equal([without.weights, without.pointsAtOnce], ["in-tile", 1]);
    assert.match(without.why, /in-tile .* not even one slot fits/);
    const fitting = settingsThatFit(settings, await planned("auto", 4, one - 1));
    assert.equal([fitting.landscape.weights, fitting.landscape.pointsAtOnce], ["in-tile", 1]);
    try {
      await planned("auto", 4, none / 10);
      assert.unreachable();
    } catch (thrown) {
      assert.match(String(thrown), /The sweep needs .* here are/);
    }
  });
});
