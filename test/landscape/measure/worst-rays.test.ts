// Worst-case rays around a small real checkpoint against their curvature and gradient, and that stops change no byte.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { norm } from "../../../engine/index.ts";
import { rayPaths, raysFolder, worstFolder } from "../../../landscape/files/layout.ts";
import { readRayPoints, readWorstFacts } from "../../../landscape/files/ray-files.ts";
import { sumOf } from "../../../landscape/measure/directions/direction.ts";
import { objectiveGradient } from "../../../landscape/measure/directions/objective-gradient.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import { pointOf } from "../../../landscape/statistics/points.ts";
import { summariseRays } from "../../../landscape/statistics/rays/summarise-rays.ts";
import { worstShown } from "../../../landscape/statistics/rays/worst-table.ts";
import { describe } from "../../support.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { openedFixture, settingsWith } from "./fixture-parts.ts";

describe("landscape/measure/worst-rays", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-worst-rays-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("worst-case rays: KL grows as its curvature says and faster than on random rays, J falls as its gradient says", async () => {
    const own = {
      ...{ "landscape.maxNewTokens": 24, "landscape.reference.prompts": 3, "landscape.reference.rollouts": 3 },
      ...{
        "landscape.rays.count": 2,
        "landscape.rays.radii": [0.0001, 0.02],
        "landscape.rays.worst": ["kl", "reward"],
      },
    };
    const settings = settingsWith(own);
    const { model, reference, measure, measureStopped } = await openedFixture(own);
    const [undisturbed, stopped] = [join(place, "worst"), join(place, "worst-stopped")];
    await measure(undisturbed, settings);
    assert.equal(furtherParts(undisturbed, settings), []);
    assert.ok((await measureStopped(stopped, settings, 400)) > 0);
    expectSame(contents(stopped), contents(undisturbed));

    const gaps: string[] = [];
    const [{ radii, worst }] = summariseRays(undisturbed, settings, assert.unreachable, (line) => gaps.push(line));
    assert.equal(gaps, []);
    const [kl, reward] = worst;
    assert.equal([kl.kind, reward.kind], ["kl", "reward"]);
    for (const [k, curvature] of kl.curvatures.entries())
      assert.ok(k === 0 || curvature > kl.curvatures[k - 1], `the power method: ${kl.curvatures}`);
    const inner = kl.points.filter(({ radius }) => Math.abs(radius) === 0.0001);
    for (const point of inner) assert.ok(point.kl > 2 * (point.atRadius?.kl.high ?? 1), "more than on random rays");
    // L(θ + sd) + L(θ − sd) − 2L(θ) = s²·dᵀHd + O(s⁴), and k1 is L(θ + sd) − L(θ).
    const onKl = readRayPoints(undisturbed, worstFolder(undisturbed, 0, "kl"), 0, assert.unreachable);
    const k1 = (onKl?.cells ?? [])
      .filter(({ alpha }) => Math.abs(alpha) === 0.0001)
      .map((cell) => pointOf(cell, reference.set).k1_token);
    const curvature = (k1[0] + k1[1]) / 0.0001 ** 2;
    const said = kl.curvatures[kl.curvatures.length - 1];
    assert.is(k1.length, 2);
    assert.ok(Math.abs(said / curvature - 1) < 0.05, `${said}, by differences of L ${curvature}`);
    const random = Math.sqrt(sumOf(readRays(undisturbed).map((length) => length ** 2)) / 2);
    const facts = readWorstFacts(worstFolder(undisturbed, 0, "kl"));
    assert.ok(Math.abs((facts?.length ?? 0) / random - 1) < 1e-5, "at the norm of the random rays");

    // dJ/ds along −∇J scaled to each tensor's norm is −Σ_W ‖∇_W J‖·‖W‖.
    const files = readRayPoints(undisturbed, worstFolder(undisturbed, 0, "reward"), 0, assert.unreachable);
    const objective = (alpha: number): number => {
      const cell = files?.cells.find((one) => one.alpha === alpha);
      return cell === undefined ? Number.NaN : pointOf(cell, reference.set).j_group_token;
    };
    const { train, batch } = settings;
    const gradient = await objectiveGradient({
      ...{ config: model.config, arena: model.weights, reference, train, maxTokens: batch.tokens },
    });
    let slope = 0;
    for (const name of model.weights.names)
      slope -= (await norm(gradient.arena.gradient(name))) * (await norm(model.weights.value(name)));
    gradient.free();
    const measured = (objective(0.0001) - objective(-0.0001)) / 0.0002;
    assert.ok(Math.abs(measured / slope - 1) < 0.1, `J falls by ${measured}, its gradient says ${slope}`);
    assert.is(radii?.rows.length, 2);
    assert.is(worstShown([{ step: 0, worst }])?.table.rows.length, 8);

    // Without rewards that differ there is no gradient of J: a gap that is said, and everything else is measured.
    const flat = { ...own, "landscape.maxNewTokens": 1, "landscape.rays.worst": ["reward"] };
    const dull = await openedFixture(flat);
    const without = join(place, "dull");
    await dull.measure(without, settingsWith(flat));
    assert.equal(furtherParts(without, settingsWith(flat)), []);
    summariseRays(without, settingsWith(flat), assert.unreachable, (line) => gaps.push(line));
    assert.match(gaps.join(), /^Step 0, worst-case ray \(reward\): The gradient of J is 0/);
    model.weights.free();
    dull.model.weights.free();
  });
});

/** ‖δ‖ of each random ray. */
const readRays = (folder: string): number[] =>
  JSON.parse(readFileSync(rayPaths(raysFolder(folder, 0)).rays, "utf8")).lengths;
