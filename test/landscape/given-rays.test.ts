// Rays, lines, pairs and noise floors around given checkpoints, in the loop of their maps: killed within the rays and continued.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { readReference } from "../../landscape/files/cells.ts";
import { lineFolder } from "../../landscape/files/layout.ts";
import { readPair } from "../../landscape/files/pair-files.ts";
import { readRayPoints } from "../../landscape/files/ray-files.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";
import { sweepCommand, sweepIn, trlFolder } from "./given-sweep.ts";
import { contents, expectSame } from "./tiny-study.ts";

const flags = {
  "landscape.points": 2,
  "landscape.rays.count": 1,
  "landscape.rays.radii": "0.05",
  "landscape.line.stepsAhead": "100",
  "landscape.line.positions": "1",
  "landscape.pairs": true,
  "landscape.noiseFloor": 2,
};
const inProcess = {
  ...flags,
  ...{ "landscape.rays.radii": [0.05], "landscape.line.stepsAhead": [100], "landscape.line.positions": [1] },
};

describe("landscape/given-rays", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-given-rays-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const pattern = [join(place, "checkpoint-*")];

  test("rays, a line, pairs and noise floors of two checkpoints: a killed sweep ends with the bytes of an undisturbed one", async () => {
    await trlFolder(join(place, "checkpoint-100"), 1);
    await trlFolder(join(place, "checkpoint-200"), 1.02);
    const [whole, stopped] = [join(place, "whole/maps"), join(place, "stopped/maps")];
    const said = await sweepIn(whole, pattern, inProcess);
    assert.not.match(said, "Incomplete");
    // Four cells of the map, then the second of three points of the rays.
    const killed = await sweepCommand(stopped, pattern, flags, { FOOTHOLD_KILL_AT: "cells:6" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    await sweepIn(stopped, pattern, inProcess);
    expectSame(contents(stopped), contents(whole));

    // The other checkpoint is the end of the line to it.
    const pair = readPair(whole, 100, 200);
    const line = readRayPoints(whole, lineFolder(whole, 100, 100), 100, assert.unreachable);
    const end = line?.cells.find(({ alpha }) => alpha === 1);
    assertClose("KL", pair?.reference.kl.flat() ?? [], end?.reference.kl.flat() ?? [9], {
      ...{ relative: 1e-2, absolute: 1e-6 },
    });
    const back = readPair(whole, 200, 100);
    assert.is(back?.reference.kl.length, readReference(whole, 200)?.tokens.length);
    const { pairs } = JSON.parse(readFileSync(join(whole, "landscape/pairs.json"), "utf8"));
    assert.equal(
      pairs.map(({ from, to, gain }: { from: number; to: number; gain: unknown }) => [from, to, gain !== null]),
      [
        [100, 200, true],
        [200, 100, true],
      ],
    );
    const page = readFileSync(join(whole, "report.html"), "utf8");
    for (const text of ["KL(π_row ‖ π_column) per token", "What rollout noise alone gives", "step 100 to 200"])
      assert.ok(page.includes(text), text);
  });

  test("a line that leads to no given checkpoint is refused before anything is written", async () => {
    const wrong = { ...inProcess, "landscape.line.stepsAhead": [50] };
    await throwsMessage(() => sweepIn(join(place, "wrong"), pattern, wrong), "no checkpoint lies 50 steps after");
    assert.is(contents(join(place, "wrong")).size, 0);
  });
});
