// What is measured around a small real checkpoint besides maps: what is on disk, and that stops and more work change no byte.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { type Phase, resolveSettings } from "../../../engine/host/index.ts";
import { writeReference } from "../../../landscape/files/cells.ts";
import { freshFolder, raysFolder } from "../../../landscape/files/layout.ts";
import { readNoiseDraws } from "../../../landscape/files/noise-files.ts";
import { readFreshPoints, readRayPoints } from "../../../landscape/files/ray-files.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import { prepareReference, type SweepContext } from "../../../landscape/measure/sweep.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { summariseNoise } from "../../../landscape/statistics/noise-floor.ts";
import { improvingPoints } from "../../../landscape/statistics/rays/density.ts";
import { summariseRays } from "../../../landscape/statistics/rays/summarise-rays.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { episodeList, openEnvironment, rollOut } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { describe, fixturePath } from "../../support.ts";
import { contents, expectSame } from "../tiny-study.ts";

const usual = {
  "train.steps": 0,
  "train.checkpoints": [0],
  "landscape.steps": [0],
  "landscape.pointsAtOnce": 4,
  "landscape.maxNewTokens": 4,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 2,
  "landscape.rollouts.rollouts": 1,
};
const settingsWith = (values: Record<string, unknown>): StudySettings => {
  const given = Object.entries({ ...usual, ...values }).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
};

/** A phase that calls `seen` each time that it moves. */
function watched(seen: () => void = () => {}): Phase {
  const phase: Phase = { advance() {}, moveTo: seen, phase: () => phase, done() {} };
  return phase;
}

describe("landscape/measure/further-parts", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-further-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  /** The fixture's model on the device, and what measures around it. */
  async function opened() {
    const { backend } = await webgpuBackend();
    const folder = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, folder);
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const environment = await openEnvironment(settingsWith({}).environment);
    const told: string[] = [];
    const context = (settings: StudySettings, signal = new AbortController().signal): SweepContext => ({
      ...{ model: { backend, config, weights }, chat, environment, settings, signal },
      place: { step: 0, trajectory: [0], state: "", folderOf: () => folder },
      say: (line) => told.push(line),
    });
    const reference = await prepareReference(context(settingsWith({})), watched());
    const measure = async (into: string, settings: StudySettings, signal?: AbortSignal, seen?: () => void) => {
      writeReference(into, 0, reference.set);
      for (const part of furtherParts(into, settings))
        await part.measure({
          ...{ context: context(settings, signal), folder: into, reference, phase: watched(seen), before: 0 },
        });
    };
    /** Stops after every few moves until all is measured. @returns the number of stops */
    const measureStopped = async (into: string, settings: StudySettings, every: number): Promise<number> => {
      for (let stops = 0; ; stops++) {
        if (furtherParts(into, settings).length === 0) return stops;
        assert.ok(stops < 100, "every attempt gets further");
        const controller = new AbortController();
        let moves = 0;
        try {
          await measure(into, settings, controller.signal, () => {
            if (++moves === every) controller.abort();
          });
        } catch (thrown) {
          if (thrown !== controller.signal.reason) throw thrown;
        }
      }
    };
    return { model: { backend, config, weights }, chat, environment, context, told, measure, measureStopped };
  }

  test("noise floor: draws with noise seeds of their own; stops and more draws change no byte", async () => {
    const { model, chat, environment, told, measure, measureStopped } = await opened();
    const longer = { "landscape.maxNewTokens": 24, "landscape.rollouts.prompts": 4 };
    const settings = settingsWith({ ...longer, "landscape.noiseFloor": 3 });
    const [undisturbed, stopped] = [join(place, "noise"), join(place, "noise-stopped")];
    await measure(undisturbed, settings);
    assert.equal(furtherParts(undisturbed, settings), []);
    assert.ok((await measureStopped(stopped, settingsWith({ ...longer, "landscape.noiseFloor": 2 }), 33)) > 0);
    await measureStopped(stopped, settings, 33);
    expectSame(contents(stopped), contents(undisturbed));
    assert.match(told.join("\n"), /Kept: \d of [23] draws of the noise floor around step 0/);

    // Draw 2 is the landscape's noise of step 2, at the checkpoint's own weights.
    const { landscape, batch } = settings;
    const episodes = episodeList(environment, landscape.episodeSeed).distinct(4);
    const requests = episodes.map((episode) => ({ episode, rollout: 0 }));
    const rewards = async (step: number): Promise<number[]> => {
      const drawn = await rollOut(model, chat, requests, {
        ...{ maxNewTokens: 24, temperature: 1, seed: landscape.seed, purpose: "landscape", step },
        ...{ turn2Template: "standard", maxRows: batch.rows, maxTokens: batch.tokens },
      });
      return drawn.map(({ reward }) => reward);
    };
    const draws = readNoiseDraws(undisturbed, 0, assert.unreachable);
    assert.equal(
      draws.map(({ draw }) => draw),
      [1, 2, 3],
    );
    assert.equal(draws[1].reward.flat(), await rewards(2));
    const all = [await rewards(0), ...draws.map(({ reward }) => reward.flat())].map(String);
    assert.ok(new Set(all).size > 1, "other noise gives other rewards");
    const gaps: string[] = [];
    const more = settingsWith({ ...longer, "landscape.noiseFloor": 4 });
    const { floors } = summariseNoise(undisturbed, more, [], assert.unreachable, (line) => gaps.push(line));
    assert.is(floors[0].draws.length, 3);
    assert.equal(gaps, ["Step 0, noise floor: 3 of 4 draws are made."]);
    model.weights.free();
  });

  test("improving neighbours on fresh prompts: prompts that no map has; stops and more rays change no byte", async () => {
    const { model, chat, environment, measure, measureStopped } = await opened();
    const few = { "landscape.maxNewTokens": 24, "landscape.rollouts.prompts": 4, "landscape.rays.radii": [0.01, 0.04] };
    const settingsOf = (rays: number): StudySettings =>
      settingsWith({ ...few, "landscape.rays.count": rays, "landscape.rays.freshPrompts": 3 });
    const [undisturbed, stopped] = [join(place, "fresh"), join(place, "fresh-stopped")];
    await measure(undisturbed, settingsOf(2));
    assert.equal(furtherParts(undisturbed, settingsOf(2)), []);
    await measureStopped(stopped, settingsOf(1), 60);
    assert.ok((await measureStopped(stopped, settingsOf(2), 60)) > 0);
    expectSame(contents(stopped), contents(undisturbed));

    const { landscape, batch } = settingsOf(2);
    const rays = readRayPoints(undisturbed, raysFolder(undisturbed, 0), 0, assert.unreachable);
    const fresh = readFreshPoints(freshFolder(undisturbed, 0), assert.unreachable);
    const better = improvingPoints(rays?.cells ?? []);
    assert.ok(better.length > 0, "some direction is better");
    assert.equal(
      fresh.map(({ i, j }) => [i, j]),
      [[-1, 0], ...better.map(({ i, j }) => [i, j])],
    );
    const known = new Set(
      episodeList(environment, landscape.episodeSeed)
        .distinct(4)
        .map(({ prompt }) => prompt),
    );
    const others = episodeList(environment, landscape.rays.freshSeed).distinct(7);
    const requests = others
      .filter(({ prompt }) => !known.has(prompt))
      .slice(0, 3)
      .map((episode) => ({ episode, rollout: 0 }));
    const drawn = await rollOut(model, chat, requests, {
      ...{ maxNewTokens: 24, temperature: 1, seed: landscape.seed, purpose: "landscape", step: 0 },
      ...{ turn2Template: "standard", maxRows: batch.rows, maxTokens: batch.tokens },
    });
    assert.equal(
      fresh[0].rollouts.reward.flat(),
      drawn.map(({ reward }) => reward),
      "the checkpoint itself on the fresh prompts",
    );
    const gaps: string[] = [];
    const [found] = summariseRays(undisturbed, settingsOf(2), assert.unreachable, (line) => gaps.push(line));
    assert.is(found.density[0].better.of, 4);
    assert.is(
      found.density.reduce((sum, { fresh: again }) => sum + (again?.still.of ?? 0), 0),
      better.length,
    );
    assert.equal(gaps, []);
    model.weights.free();
  });
});
