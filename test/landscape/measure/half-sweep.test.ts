// A sweep in f16 (`--landscape.precision f16`): exactly 0 and 1 at the grid's origin, near the sweep in f32 elsewhere, in
// less memory, and an error for numbers that f16 does not hold.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Phase } from "../../../engine/host/index.ts";
import type { CellRecord } from "../../../landscape/files/cells.ts";
import { slicePaths } from "../../../landscape/files/layout.ts";
import { makeSlice } from "../../../landscape/measure/directions.ts";
import { expectSweepMemory } from "../../../landscape/measure/memory-plan.ts";
import { PerturbedWeights } from "../../../landscape/measure/perturbed-weights.ts";
import { scorePoint } from "../../../landscape/measure/reference.ts";
import { RoundedWeights } from "../../../landscape/measure/rounded-weights.ts";
import { sweep } from "../../../landscape/measure/sweep.ts";
import { prepareReference, type SweepContext } from "../../../landscape/measure/sweep-context.ts";
import type { StudySettings } from "../../../landscape/settings.ts";
import { loadChat, loadModel, loadTokenizer, type Model } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { testBackends, webgpuBackend } from "../../backends.ts";
import { describe, fixturePath, throwsMessage } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

function settingsWith(precision: "f32" | "f16", other: Readonly<Record<string, number>> = {}): StudySettings {
  return settingsOf({
    "landscape.precision": precision,
    "landscape.points": 3,
    "landscape.pointsAtOnce": 4,
    "landscape.maxNewTokens": 6,
    "landscape.reference.prompts": 2,
    "landscape.reference.rollouts": 2,
    "landscape.rollouts.prompts": 3,
    "landscape.rollouts.rollouts": 2,
    "batch.rows": 6,
    ...other,
  });
}

const still: Phase = { advance() {}, moveTo() {}, phase: () => still, done() {} };
const folder = fixturePath("tiny-warm-start");
const chat = await loadChat(folder, await loadTokenizer(folder));

async function contextOf(model: SweepContext["model"], settings: StudySettings): Promise<SweepContext> {
  const environment = await openEnvironment(settings.environment);
  const { signal } = new AbortController();
  const place = { step: 0, trajectory: [], state: "", folderOf: () => folder };
  return { model, chat, environment, settings, place, signal, say: () => {} };
}

describe("landscape/measure/half-sweep", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-half-sweep-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  let folders = 0;

  /** The cells of a slice around the checkpoint, by "i,j". */
  async function cellsOf(context: SweepContext): Promise<Map<string, CellRecord>> {
    const reference = await prepareReference(context, still);
    const into = join(place, String(folders++));
    await sweep(context, 0, into, reference, still, 0);
    const lines = readFileSync(slicePaths(into).cells, "utf8").trim().split("\n");
    const records = lines.map((line): CellRecord => JSON.parse(line));
    return new Map(records.map((record) => [`${record.i},${record.j}`, record]));
  }

  test("at the origin KL, k1 and k3 are exactly 0; elsewhere KL is near that of f32", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, folder);
    const model = { backend, config, weights };
    const [f32, f16] = [
      await cellsOf(await contextOf(model, settingsWith("f32"))),
      await cellsOf(await contextOf(model, settingsWith("f16"))),
    ];
    const again = await cellsOf(await contextOf(model, settingsWith("f16", { "landscape.pointsAtOnce": 1 })));
    assert.is(f16.size, 9);
    let differs = false;
    for (const [at, cell] of f16) {
      assert.equal(again.get(at), cell, `${at}: the same numbers whatever the number of slots`);
      const other = f32.get(at);
      if (other === undefined) throw new Error(`no cell ${at}`);
      for (const name of ["kl", "k1", "k3"] as const) {
        const [found, expected] = [cell.reference[name].flat(), other.reference[name].flat()];
        if (at === "1,1")
          assert.ok(
            found.every((value) => value === 0),
            `${name} at the origin: ${found}`,
          );
        if (at !== "1,1" && name === "kl") differs ||= found.some((value, i) => value !== expected[i]);
      }
    }
    assert.ok(differs, "f16 changes nothing");
    const mean = (cells: ReadonlyMap<string, CellRecord>, at: string): number => {
      const { kl } = cells.get(at)?.reference ?? { kl: [] };
      return kl.flat().reduce((sum, one) => sum + one, 0) / kl.flat().length;
    };
    for (const at of f16.keys())
      assert.ok(
        Math.abs(mean(f16, at) - mean(f32, at)) <= 0.05 * mean(f32, at) + 1e-4,
        `${at}: KL ${mean(f16, at)} in f16, ${mean(f32, at)} in f32`,
      );
    weights.free();
  });

  test("the slot of the origin has the bits of the rounded checkpoint: ratios are exactly 1", async () => {
    for (const { name: on, backend } of await testBackends()) {
      if (on.includes("+") || backend.kind === "cpu") continue;
      const { config, weights } = await loadModel(backend, folder, { forwardCopies: false });
      const settings = settingsWith("f16", { "landscape.maxNewTokens": 3 });
      const context = await contextOf({ backend, config, weights }, settings);
      const reference = await prepareReference(context, still);
      const rounded = new RoundedWeights(weights);
      const slots = new PerturbedWeights(weights, 2, "f16");
      const cells = [0.03, 0].map((alpha) => ({ i: 0, j: 0, alpha, beta: 0, squaredSteps: 0 }));
      slots.place(cells, await makeSlice(weights, 1, 0));
      const [policy, perturbed]: Model[] = [rounded, slots].map((own) => ({ backend, config, weights: own }));
      const scoring = { maxTokens: 100, clipLow: 0.2, clipHigh: 0.2 };
      const scored = await scorePoint(policy, perturbed, 1, reference, scoring);
      for (const name of ["kl", "k1", "k3"] as const)
        assert.ok(
          scored[name].flat().every((value) => value === 0),
          `${on}: ${name}: ${scored[name]}`,
        );
      scored.objective.flat().forEach((sum, i) => {
        // ρ is exactly 1 if every token adds exactly its advantage.
        let expected = 0;
        for (let t = 0; t < reference.rollouts[i].tokens; t++) expected += reference.advantages[i];
        assert.is(sum, expected, `${on}: objective of completion ${i}`);
      });
      const moved = await scorePoint(policy, perturbed, 0, reference, scoring);
      assert.ok(
        moved.kl.flat().every((value) => value > 0),
        `${on}: away from the origin: ${moved.kl}`,
      );
      for (const one of [slots, rounded, weights]) one.free();
    }
  });

  test("a sweep in f16 needs less memory: the plan says how much", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, folder);
    weights.free();
    const environment = await openEnvironment(settingsWith("f32").environment);
    const plan = async (precision: "f32" | "f16") => {
      const job = { config, chat, environment, settings: settingsWith(precision) };
      const { parts } = await expectSweepMemory(backend, job, new AbortController().signal, false);
      return parts;
    };
    const [f32, f16] = [await plan("f32"), await plan("f16")];
    const slots = (parts: typeof f32): number => parts.get("perturbed weights") ?? 0;
    // Half of every matrix, and one layout of the tied embedding where f32 has two.
    assert.ok(slots(f16) < 0.51 * slots(f32) && slots(f16) > 0, `${slots(f16)} of ${slots(f32)} bytes`);
    const own = (parts: typeof f32): number => (parts.get("weights") ?? 0) + (parts.get("compute copies") ?? 0);
    assert.ok(own(f16) < 0.8 * own(f32), `${own(f16)} of ${own(f32)} bytes`);
    assert.is(f16.get("compute copies") ?? 0, 0);
  });

  test("a point whose weights f16 does not hold is an error, not a number", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, folder);
    const context = await contextOf({ backend, config, weights }, settingsWith("f16"));
    const reference = await prepareReference(context, still);
    const far = await contextOf({ backend, config, weights }, settingsWith("f16", { "landscape.radius": 1e7 }));
    await throwsMessage(
      () => sweep(far, 0, join(place, "far"), reference, still, 0),
      "beyond ±65504, the range of f16. Use f32",
    );
    weights.free();
  });
});
