// The plan of a sweep against the memory that the sweep used, with rollouts that share the prefixes of their prompts, in
// generation and in scoring.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { type Phase, resolveSettings } from "../../../engine/host/index.ts";
import { openBackend } from "../../../engine/index.ts";
import { sweepMemory } from "../../../landscape/measure/memory-plan.ts";
import { sweep } from "../../../landscape/measure/sweep.ts";
import { prepareReference } from "../../../landscape/measure/sweep-context.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { loadChat, loadTokenizer, makeWeights, openConfig } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { fillAtRandom } from "../../random-model.ts";
import { describe, fixturePath } from "../../support.ts";

function settingsOf(other: Readonly<Record<string, number | string>>): StudySettings {
  const given = Object.entries({
    "landscape.points": 3,
    "landscape.maxNewTokens": 4,
    "landscape.weights": "slots",
    "landscape.reference.prompts": 4,
    "landscape.rollouts.prompts": 4,
    "batch.rows": 256,
    ...other,
  }).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
}

const still: Phase = { advance() {}, moveTo() {}, phase: () => still, done() {} };
const folder = fixturePath("tiny-warm-start");
const chat = await loadChat(folder, await loadTokenizer(folder));

/** Rollouts per prompt; points at once; precision; whether slots are refilled. */
const cases = [
  { rollouts: 2, points: 1, precision: "f32", refill: "on" },
  { rollouts: 8, points: 1, precision: "f32", refill: "on" },
  { rollouts: 8, points: 4, precision: "f32", refill: "off" },
  { rollouts: 8, points: 4, precision: "f32", refill: "on" },
  { rollouts: 8, points: 4, precision: "f16", refill: "off" },
] as const;

describe("landscape/measure/planned-memory", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-planned-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  for (const { rollouts, points, precision, refill } of cases)
    test(`${rollouts} rollouts per prompt, ${points} slots, ${precision}, refill ${refill}: the plan is what is used, within a tenth${refill === "on" ? ", or at most 15% too much" : ""}`, async () => {
      const { backend } = await openBackend({ backend: "webgpu" });
      try {
        const settings = settingsOf({
          "landscape.reference.rollouts": rollouts,
          "landscape.rollouts.rollouts": rollouts,
          "landscape.pointsAtOnce": points,
          "landscape.precision": precision,
          "landscape.refill": refill,
        });
        const environment = await openEnvironment(settings.environment);
        const { signal } = new AbortController();
        const { config } = await openConfig(folder);
        const weights = makeWeights(backend, config, { forwardCopies: precision === "f32" });
        fillAtRandom(weights, config, chat);
        const planned = await sweepMemory(backend, { config, chat, environment, settings }, signal, {
          ...{ limit: null, compiles: false, refusesHost: false },
        });
        assert.equal([planned.weights, planned.pointsAtOnce], ["slots", points]);
        const context = {
          ...{ model: { backend, config, weights }, chat, environment, settings, signal, say: () => {} },
          place: { step: 0, trajectory: [], state: "", folderOf: () => folder },
        };
        const into = join(place, `${rollouts}-${points}-${precision}-${refill}`);
        await sweep(context, 0, into, await prepareReference(context, still), still, 0);
        const used = backend.statistics().peakBytes;
        const ratio = planned.deviceBytes / used;
        // With refilled slots rollouts and completions share tokens that they say alike. The plan does not count on it.
        const most = refill === "on" ? 1.15 : 1.1;
        assert.ok(ratio > 0.9 && ratio < most, `planned ${planned.deviceBytes}, used ${used}`);
        weights.free();
      } finally {
        backend.destroy();
      }
    });
});
