// Rays, fixed KL and a line around a small real checkpoint: what is on disk, and that stops and more rays change no byte.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { diffSettings } from "../../../engine/host/index.ts";
import { writeReference } from "../../../landscape/files/cells.ts";
import { fixedKlFolder, lineFolder, rayPaths, raysFolder } from "../../../landscape/files/layout.ts";
import { CHECKPOINT, rayPlaceOf, readRayPoints, readScales } from "../../../landscape/files/ray-files.ts";
import { rayPoints } from "../../../landscape/files/ray-points.ts";
import { KL_TOLERANCE, MOST_PASSES } from "../../../landscape/measure/fixed-kl.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import { type Reference, scorePoint } from "../../../landscape/measure/reference.ts";
import { prepareReference, type SweepContext } from "../../../landscape/measure/sweep-context.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { pointOf } from "../../../landscape/statistics/points.ts";
import { raysShown } from "../../../landscape/statistics/rays/ray-tables.ts";
import { summariseRays } from "../../../landscape/statistics/rays/summarise-rays.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { assertClose, describe, fixturePath } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { scaleWeights, watched } from "./fixture-parts.ts";

const usual = {
  "train.steps": 3,
  "train.checkpoints": [0, 3],
  "landscape.steps": [0],
  "landscape.pointsAtOnce": 4,
  "landscape.maxNewTokens": 4,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 2,
  "landscape.rollouts.rollouts": 1,
  "landscape.rays.count": 2,
  "landscape.rays.radii": [0.03, 0.09],
  "landscape.rays.kl": [0.01, 0.1],
  "landscape.line.stepsAhead": [3],
  "landscape.line.positions": [-0.5, 1],
};
const settingsWith = (values: Record<string, unknown>): StudySettings => settingsOf({ ...usual, ...values });

describe("landscape/measure/rays", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-rays-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("a run stopped everywhere and then given more rays has the bytes of an undisturbed one; KL is within 5% in six passes", async () => {
    const { backend } = await webgpuBackend();
    const model = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, model);
    const chat = await loadChat(model, await loadTokenizer(model));
    const whole = settingsWith({});
    const environment = await openEnvironment(whole.environment);
    const told: string[] = [];
    const context = (settings: StudySettings, signal: AbortSignal): SweepContext => ({
      ...{ model: { backend, config, weights }, chat, environment, settings, signal },
      place: { step: 0, trajectory: [0, 3], state: "", folderOf: () => model },
      say: (line) => told.push(line),
    });
    const never = new AbortController().signal;
    const reference: Reference = await prepareReference(context(whole, never), watched());
    const measure = async (folder: string, settings: StudySettings, signal: AbortSignal, seen?: () => void) => {
      writeReference(folder, 0, reference.set);
      for (const part of furtherParts(folder, settings))
        await part.measure({ context: context(settings, signal), folder, reference, phase: watched(seen), before: 0 });
    };
    const points = rayPoints(whole.landscape);
    assert.is(points.length, 9);
    const undisturbed = join(place, "whole");
    const noLine = settingsWith({ "landscape.line.stepsAhead": [] });
    await measure(undisturbed, noLine, never);
    assert.equal(furtherParts(undisturbed, noLine), []);

    const stopped = join(place, "stopped");
    let stops = 0;
    for (const rays of [1, 2])
      for (;;) {
        const settings = settingsWith({ "landscape.line.stepsAhead": [], "landscape.rays.count": rays });
        if (furtherParts(stopped, settings).length === 0) break;
        const controller = new AbortController();
        let moves = 0;
        try {
          await measure(stopped, settings, controller.signal, () => {
            if (++moves === 9) controller.abort();
          });
        } catch (thrown) {
          if (thrown !== controller.signal.reason) throw thrown;
          stops++;
        }
        assert.ok(stops < 100, "every attempt gets further");
      }
    assert.ok(stops > 2, `${stops} stops`);
    assert.match(told.join("\n"), /Kept: \d+ of [59] points on rays around step 0/);
    expectSame(contents(stopped), contents(undisturbed));

    // An interrupted write of the last scale: it is searched again, to the same bytes.
    const scalesPath = rayPaths(fixedKlFolder(stopped, 0)).scales;
    writeFileSync(scalesPath, readFileSync(scalesPath).subarray(0, -5));
    await measure(stopped, noLine, never);
    expectSame(contents(stopped), contents(undisturbed));

    const scales = readScales(fixedKlFolder(undisturbed, 0), assert.unreachable);
    assert.is(scales.length, 8);
    const atKl = readRayPoints(undisturbed, fixedKlFolder(undisturbed, 0), 0, assert.unreachable);
    for (const { ray, sign, target, scale, kl, passes } of scales) {
      assert.ok(passes.length <= MOST_PASSES && scale !== null && kl !== null, `ray ${ray}, KL ${target}`);
      assert.ok(Math.abs((kl ?? 0) / target - 1) <= KL_TOLERANCE, `${kl} for ${target}`);
      const cell = atKl?.cells.find((one) => one.i === ray && one.alpha === sign * (scale ?? 0));
      if (cell === undefined || atKl === null) throw new Error(`no point of ray ${ray} at KL ${target}`);
      assert.is(pointOf(cell, atKl.reference).kl_token, kl, "the point has the KL that the search found, to the bit");
    }
    const atRadii = readRayPoints(undisturbed, raysFolder(undisturbed, 0), 0, assert.unreachable);
    const own = atRadii?.cells.find((cell) => rayPlaceOf(cell) === null);
    assert.equal(own?.reference.kl.flat(), new Array<number>(4).fill(0), "KL at the checkpoint is 0 exactly");
    assert.is(atRadii?.cells.filter(({ i }) => i === CHECKPOINT.i).length, 1);
    const kls = atRadii?.cells.flatMap(({ i, reference: { kl } }) => (i < 0 ? [] : [kl.flat().join()]));
    assert.is(new Set(kls).size, 8, "no two rays, radii or halves are the same point");

    const gaps: string[] = [];
    const [found] = summariseRays(undisturbed, noLine, assert.unreachable, (line) => gaps.push(line));
    assert.equal(gaps, []);
    assert.is(found.radii?.rows.length, 2);
    assert.is(found.fixedKl?.rows[1].rays, 2);
    assert.match(raysShown([found])?.sentences.join() ?? "", "fewer than 5 rays there is no interval");
    rmSync(join(undisturbed, "landscape/step-000000/fixed-kl/cells.jsonl"));
    summariseRays(undisturbed, noLine, assert.unreachable, (line) => gaps.push(line));
    assert.equal(gaps, ["Step 0, fixed KL: 0 of 8 points are measured."]);

    // The line to another checkpoint: its end is that checkpoint, and half a step back its mirror.
    const later = join(place, "later");
    cpSync(model, later, { recursive: true });
    scaleWeights(join(later, "model.safetensors"), 1.03);
    const other = await loadModel(backend, later);
    const lined = join(place, "line");
    const lineOnly = settingsWith({ "landscape.rays.count": 0 });
    const [line] = furtherParts(lined, lineOnly);
    const within = context(lineOnly, never);
    writeReference(lined, 0, reference.set);
    await line.measure({
      context: { ...within, place: { ...within.place, folderOf: () => later } },
      ...{ folder: lined, reference, phase: watched(), before: 0 },
    });
    const onLine = readRayPoints(lined, lineFolder(lined, 0, 3), 0, assert.unreachable);
    assert.equal(
      onLine?.cells.map(({ alpha }) => alpha),
      [0, -0.5, 1],
    );
    const plain = { backend, config, weights };
    const scored = await scorePoint(plain, { backend, config, weights: other.weights }, 0, reference, {
      ...{ maxTokens: 4096, clipLow: 0.2, clipHigh: 0.2 },
    });
    const end = onLine?.cells[2].reference.kl.flat() ?? [];
    assertClose("KL of the other checkpoint", end, scored.kl.flat(), { relative: 1e-3, absolute: 1e-6 });
    assert.ok(end.every((kl) => kl > 1e-4));
    other.weights.free();
    weights.free();
  });

  test("rays and KLs may be added to a run, and what was measured may not change", () => {
    const effects = (before: Record<string, unknown>, after: Record<string, unknown>): Record<string, string> =>
      Object.fromEntries(
        diffSettings(studySettings, settingsWith(before), settingsWith(after)).map(({ key, effect }) => [key, effect]),
      );
    const none = { "landscape.rays.count": 0, "landscape.line.stepsAhead": [] };
    assert.equal(new Set(Object.values(effects(none, {}))), new Set(["extends"]));
    assert.equal(effects({}, { "landscape.rays.count": 5 }), { "landscape.rays.count": "extends" });
    assert.equal(effects({ "landscape.rays.kl": [] }, {}), { "landscape.rays.kl": "extends" });
    assert.equal(effects({}, { "landscape.rays.kl": [0.01] }), { "landscape.rays.kl": "alters" });
    assert.equal(effects({}, { "landscape.rays.radii": [0.03] }), { "landscape.rays.radii": "alters" });
    assert.equal(effects({}, { "landscape.line.positions": [1] }), { "landscape.line.positions": "alters" });
  });

  test("what is refused: radii that do not ascend, a line to no checkpoint or to the checkpoint itself", () => {
    const refused = (values: Record<string, unknown>, says: RegExp): void =>
      assert.throws(
        () => settingsWith(values),
        (thrown: Error) => says.test(thrown.message),
      );
    refused(
      { "landscape.rays.radii": [0.1, 0.05] },
      /landscape\.rays\.radii: expected each number above the one before/,
    );
    refused({ "landscape.rays.kl": [0.1, 0.1] }, /landscape\.rays\.kl: expected each number above/);
    refused({ "landscape.line.stepsAhead": [2] }, /no checkpoint lies 2 steps after one of landscape\.steps \(0\)/);
    refused({ "landscape.line.stepsAhead": [0] }, /0 steps ahead is the checkpoint itself/);
    refused({ "landscape.line.positions": [0, 1] }, /ascending numbers without 0/);
  });

  test("32 rays × 6 radii × 2 signs are fewer points than a grid of 21 × 21", () => {
    const { landscape } = settingsWith({ "landscape.rays.count": 32, "landscape.rays.radii": [] });
    assert.is(rayPoints(landscape).length, 385);
  });
});
