// KL of a map's cells from other checkpoints: with the map's own checkpoint as the other one it is the map's own KL to the bit;
// with another one it is that of a line from there; a stop changes no byte; and a run says what is not measured.
import * as assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { createProgress, diffSettings } from "../../../engine/host/index.ts";
import { readSlice } from "../../../landscape/files/cells.ts";
import { readKlFrom } from "../../../landscape/files/kl-from-files.ts";
import { klFromPath, sliceFolder } from "../../../landscape/files/layout.ts";
import { type KlFromJob, klFromToMeasure, measureKlFrom } from "../../../landscape/measure/kl-from.ts";
import { scorePoint } from "../../../landscape/measure/reference.ts";
import { sweepCheckpoints } from "../../../landscape/measure/sweep-checkpoints.ts";
import { prepareReference } from "../../../landscape/measure/sweep-context.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { summariseKlFrom } from "../../../landscape/statistics/kl-from.ts";
import { summariseSlice } from "../../../landscape/statistics/summarise-slice.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { openEnvironment, Timings } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { assertClose, describe, fixturePath } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { scaleWeights } from "./fixture-parts.ts";

const settingsWith = (values: Record<string, unknown> = {}): StudySettings =>
  settingsOf({
    "train.steps": 3,
    "train.checkpoints": [0, 3],
    "landscape.steps": [0],
    "landscape.points": 3,
    "landscape.pointsAtOnce": 5,
    "landscape.maxNewTokens": 4,
    "landscape.reference.prompts": 2,
    "landscape.reference.rollouts": 2,
    "landscape.rollouts.prompts": 2,
    "landscape.rollouts.rollouts": 1,
    "landscape.simulations": 0,
    "landscape.klFrom": [0, 3],
    ...values,
  });

describe("landscape/measure/kl-from", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-kl-from-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("from the checkpoint itself it is the map's own KL; from another one that of scoring there; stops change no byte", async () => {
    const { backend } = await webgpuBackend();
    const model = fixturePath("tiny-warm-start");
    const chat = await loadChat(model, await loadTokenizer(model));
    const settings = settingsWith();
    const environment = await openEnvironment(settings.environment);
    const later = join(place, "later");
    cpSync(model, later, { recursive: true });
    scaleWeights(join(later, "model.safetensors"), 1.03);
    const progress = createProgress({ stream: new PassThrough(), quiet: true });
    const runIn = (folder: string, other: string, signal = new AbortController().signal): KlFromJob => {
      mkdirSync(folder, { recursive: true });
      return {
        ...{ backend, chat, environment, settings, folder, progress, signal, timings: new Timings(folder, backend) },
        placeAt: (step) => ({ step, trajectory: [0, 3], state: "", folderOf: (of) => (of === 0 ? model : other) }),
      };
    };
    const first = runIn(join(place, "same"), model);
    await sweepCheckpoints({ ...first, checkpointAt: () => model, placeAt: first.placeAt });
    cpSync(first.folder, join(place, "whole"), { recursive: true });
    cpSync(first.folder, join(place, "stopped"), { recursive: true });
    const slice = { step: 0, slice: 0 };
    const own = readSlice(first.folder, slice, assert.fail);

    await measureKlFrom(first);
    const same = readKlFrom(first.folder, slice, 3, assert.fail);
    const klAt = new Map(own?.cells.map(({ i, j, reference }) => [`${i},${j}`, reference.kl]));
    assert.equal(same?.cells.length, 9);
    for (const { i, j, kl } of same?.cells ?? []) assert.deepEqual(kl, klAt.get(`${i},${j}`), `cell ${i},${j}`);

    const whole = runIn(join(place, "whole"), later);
    assert.deepEqual(klFromToMeasure(whole.folder, settings), [{ ...slice, from: 3, done: 0 }]);
    await measureKlFrom(whole);
    assert.deepEqual(klFromToMeasure(whole.folder, settings), []);
    const found = readKlFrom(whole.folder, slice, 3, assert.fail);
    // In the centre it is the KL from the other checkpoint to this one, scored on the other's completions.
    const [theirs, ours] = [await loadModel(backend, later), await loadModel(backend, model)];
    const policy = { ...theirs, backend };
    const signal = new AbortController().signal;
    const reference = await prepareReference(
      { model: policy, chat, environment, settings, place: whole.placeAt(3), signal, say: assert.fail },
      progress.phase("reference", 4, "completions"),
    );
    assert.deepEqual(found?.reference, reference.set);
    const scored = await scorePoint(policy, { ...ours, backend }, 0, reference, {
      ...{ maxTokens: settings.batch.tokens, clipLow: 0.2, clipHigh: 0.2 },
    });
    const centre = found?.cells.find(({ alpha, beta }) => alpha === 0 && beta === 0)?.kl.flat() ?? [];
    assert.ok(scored.kl.flat().every((kl) => kl > 1e-4));
    assertClose("KL in the centre", centre, scored.kl.flat(), { relative: 1e-5, absolute: 1e-7 });
    theirs.weights.free();
    ours.weights.free();

    // Stopped after its first cells: what is there is kept, and a cut line is measured again.
    const stop = new AbortController();
    const stopped = runIn(join(place, "stopped"), later, stop.signal);
    const phase = (): ReturnType<typeof progress.phase> => ({
      ...{ moveTo() {}, done() {}, phase },
      advance: (by = 0) => {
        if (by > 0 && readsCells(stopped.folder) >= 4) stop.abort();
      },
    });
    await assert.rejects(measureKlFrom({ ...stopped, progress: { ...progress, phase } }));
    const path = klFromPath(sliceFolder(stopped.folder, slice), 3);
    assert.equal(readsCells(stopped.folder), 4);
    writeFileSync(path, readFileSync(path).subarray(0, -3));
    await measureKlFrom(runIn(stopped.folder, later));
    expectSame(contents(stopped.folder), contents(whole.folder));

    const gaps: string[] = [];
    const gap = (line: string): void => void gaps.push(line);
    const summarised = summariseSlice(whole.folder, slice, settings, assert.fail);
    if (summarised === null) throw new Error("expected a slice");
    const maps = summariseKlFrom(whole.folder, settings, [summarised], assert.fail, gap);
    assert.deepEqual(
      maps.map(({ from, isOwn }) => [from, isOwn]),
      [
        [0, true],
        [3, false],
      ],
    );
    assert.deepEqual(gaps, []);
    assert.equal(maps[0].klAtCentre, 0);
    assert.deepEqual(maps[0].r, summarised.summary.r);
    rmSync(klFromPath(sliceFolder(whole.folder, slice), 3));
    summariseKlFrom(whole.folder, settings, [summarised], assert.fail, gap);
    assert.deepEqual(gaps, ["Step 0, slice 0: KL from step 3 is measured in 0 of 9 cells, so it is left out."]);
  });

  function readsCells(folder: string): number {
    return readKlFrom(folder, { step: 0, slice: 0 }, 3, () => {})?.cells.length ?? 0;
  }

  test("it may be added to a run, and grows with grid and completions; steps without a checkpoint are refused", () => {
    const effects = (before: Record<string, unknown>, after: Record<string, unknown>): Record<string, string> =>
      Object.fromEntries(
        diffSettings(studySettings, settingsWith(before), settingsWith(after)).map(({ key, effect }) => [key, effect]),
      );
    assert.deepEqual(effects({ "landscape.klFrom": [] }, {}), { "landscape.klFrom": "extends" });
    assert.deepEqual(effects({}, { "landscape.points": 5 }), { "landscape.points": "extends" });
    assert.deepEqual(effects({}, { "landscape.reference.prompts": 3 }), { "landscape.reference.prompts": "extends" });
    assert.deepEqual(effects({}, { "landscape.rollouts.prompts": 3 }), { "landscape.rollouts.prompts": "extends" });
    assert.throws(
      () => settingsWith({ "landscape.klFrom": [2] }),
      /landscape\.klFrom: step 2 has no checkpoint; there are those of steps 0, 3/,
    );
  });
});
