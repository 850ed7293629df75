// The noise floor of a small real checkpoint: what is on disk, and that stops and more draws change no byte.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { readNoiseDraws } from "../../../landscape/files/noise-files.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import { summariseNoise } from "../../../landscape/statistics/noise-floor.ts";
import { episodeList, rollOut } from "../../../rl/index.ts";
import { describe } from "../../support.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { openedFixture, settingsWith } from "./fixture-parts.ts";

describe("landscape/measure/noise-floor", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-noise-floor-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("noise floor: draws with noise seeds of their own; stops and more draws change no byte", async () => {
    const { model, chat, environment, told, measure, measureStopped } = await openedFixture();
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
});
