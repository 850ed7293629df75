// Rays, lines, noise floors, pairs and KL from other checkpoints that grow end with the bytes of a fresh run of their size, and only
// what is new is computed.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { raysFolder, slicePaths } from "../../landscape/files/layout.ts";
import { describe, throwsMessage } from "../support.ts";
import { type Given, measuredIn, sweepCommand, sweepIn, trlFolder, warmModel } from "./given-sweep.ts";
import { contents, expectSame } from "./tiny-study.ts";

/** As flags of a command line. */
const flagsOf = (given: Given): Given =>
  Object.fromEntries(Object.entries(given).map(([key, value]) => [key, Array.isArray(value) ? value.join() : value]));

describe("landscape/ray-growth", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-ray-growth-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // The report shows a folder's name, so all have the same.
  const at = (name: string): string => join(place, name, "run");
  const checkpoints = [join(place, "checkpoint-0"), join(place, "checkpoint-1")];

  const begun: Given = {
    ...{ "landscape.points": 2, "landscape.pointsAtOnce": 3, "landscape.conversations": 2 },
    ...{ "landscape.rays.count": 1, "landscape.rays.radii": [0.05], "landscape.rays.signs": "plus" },
    ...{ "landscape.rays.kl": [0.01], "landscape.rays.worst": ["reward"], "landscape.rays.freshPrompts": 2 },
    ...{ "landscape.line.stepsAhead": [1], "landscape.line.positions": [1] },
    ...{ "landscape.noiseFloor": 2, "landscape.pairs": true, "landscape.klFrom": [0] },
  };
  const farther: Given = {
    ...begun,
    ...{ "landscape.rays.count": 2, "landscape.rays.radii": [0.05, 0.07, 0.2], "landscape.rays.signs": "both" },
    ...{ "landscape.rays.kl": [0.003, 0.01, 0.1], "landscape.rays.freshPrompts": 3 },
    ...{ "landscape.line.positions": [-0.5, 0.5, 1], "landscape.noiseFloor": 3 },
  };

  test("more rays, radii, halves, KLs, fresh prompts, draws and positions on a line", async () => {
    for (const [step, folder] of checkpoints.entries()) await trlFolder(folder, 1 + step / 50);
    await sweepIn(at("grown"), checkpoints, begun);
    await sweepIn(at("grown"), checkpoints, farther);
    await sweepIn(at("farther"), checkpoints, farther);
    expectSame(contents(at("grown")), contents(at("farther")));
    assert.equal(measuredIn(at("grown")), measuredIn(at("farther")), "nothing is measured again");
  });

  test("more prompts and rollouts", async () => {
    // Without fresh prompts: with more rollouts other rays may improve.
    const few: Given = {
      ...{
        "landscape.points": 2,
        "landscape.noiseFloor": 2,
        "landscape.rays.count": 2,
        "landscape.rays.radii": [0.05, 0.1],
      },
      "landscape.rays.kl": [0.01],
    };
    const more: Given = { ...few, "landscape.rollouts.prompts": 3, "landscape.rollouts.rollouts": 2 };
    await sweepIn(at("more"), [warmModel], few);
    await sweepIn(at("more"), [warmModel], more);
    await sweepIn(at("most"), [warmModel], more);
    expectSame(contents(at("more")), contents(at("most")));
    assert.equal(measuredIn(at("more")), measuredIn(at("most")), "nothing is measured again");
  });

  test("more prompts of the checkpoint and a larger grid, killed in the middle: what rests on its completions is made again", async () => {
    const first: Given = { ...begun, "landscape.rays.worst": ["kl", "reward"] };
    const most: Given = {
      ...first,
      "landscape.points": 3,
      "landscape.rollouts.prompts": 3,
      "landscape.reference.prompts": 3,
    };
    await sweepIn(at("killed"), checkpoints, first);
    const killed = await sweepCommand(at("killed"), checkpoints, flagsOf(most), { FOOTHOLD_KILL_AT: "cells:14" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    assert.match(killed.stderr, /the scales at fixed KL are searched again/);
    assert.match(
      killed.stderr,
      /the worst-case ray \(reward\) rests on the checkpoint's own completions: it is made again/,
    );
    await sweepIn(at("killed"), checkpoints, most);
    await sweepIn(at("undisturbed"), checkpoints, most);
    expectSame(contents(at("killed")), contents(at("undisturbed")));
  });

  test("what alters is refused: points that would be lost, and rays with points under way", async () => {
    const before = contents(at("grown"));
    const refused = (flags: Given, ...texts: string[]): Promise<Error> =>
      throwsMessage(() => sweepIn(at("grown"), checkpoints, { ...farther, ...flags }), ...texts);
    await refused({ "landscape.rays.radii": [0.05, 0.2] }, "landscape.rays.radii: [0.05,0.07,0.2] -> [0.05,0.2]");
    await refused({ "landscape.rays.signs": "plus" }, 'landscape.rays.signs: "both" -> "plus"');
    await refused({ "landscape.rays.norm": "global" }, "landscape.rays.norm");
    await refused({ "landscape.line.positions": [1] }, "landscape.line.positions: [-0.5,0.5,1] -> [1]");
    const { underWay } = slicePaths(raysFolder(at("grown"), 1));
    writeFileSync(underWay, "");
    await refused({ "landscape.rays.radii": [0.05, 0.07, 0.1, 0.2] }, "grid points are under way");
    rmSync(underWay);
    expectSame(contents(at("grown")), before);
    assert.not.ok(existsSync(slicePaths(raysFolder(at("grown"), 1)).earlier));
  });
});
