// Improving neighbours of a small real checkpoint on fresh prompts: what is on disk, and that stops and more rays change no byte.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { freshFolder, raysFolder } from "../../../landscape/files/layout.ts";
import { readFreshPoints, readRayPoints } from "../../../landscape/files/ray-files.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import type { StudySettings } from "../../../landscape/settings.ts";
import { improvingPoints } from "../../../landscape/statistics/rays/density.ts";
import { summariseRays } from "../../../landscape/statistics/rays/summarise-rays.ts";
import { episodeList, rollOut } from "../../../rl/index.ts";
import { describe } from "../../support.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { openedFixture, settingsWith } from "./fixture-parts.ts";

describe("landscape/measure/fresh-prompts", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-fresh-prompts-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("improving neighbours on fresh prompts: prompts that no map has; stops and more rays change no byte", async () => {
    const { model, chat, environment, measure, measureStopped } = await openedFixture();
    const few = { "landscape.maxNewTokens": 24, "landscape.rollouts.prompts": 4, "landscape.rays.radii": [0.01, 0.04] };
    const settingsOf = (rays: number): StudySettings =>
      settingsWith({ ...few, "landscape.rays.count": rays, "landscape.rays.freshPrompts": 3 });
    const [undisturbed, stopped] = [join(place, "fresh"), join(place, "fresh-stopped")];
    await measure(undisturbed, settingsOf(2));
    assert.equal(furtherParts(undisturbed, settingsOf(2)), []);
    await measureStopped(stopped, settingsOf(1), 120);
    assert.ok((await measureStopped(stopped, settingsOf(2), 120)) > 0);
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
