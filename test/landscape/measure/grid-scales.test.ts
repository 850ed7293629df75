// Grids whose directions are scaled to a KL at the edge: a field whose answer is known, and small sweeps around a real checkpoint.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { readSlice } from "../../../landscape/files/cells.ts";
import { mergeShards } from "../../../landscape/files/merge-shards.ts";
import { readSliceFacts } from "../../../landscape/files/slice-facts.ts";
import { scalesAtEdge } from "../../../landscape/measure/grid-scales.ts";
import { slicesToSweep } from "../../../landscape/measure/sweep-checkpoints.ts";
import { furtherWork } from "../../../landscape/plan/further-work.ts";
import { comparison } from "../../../landscape/report/compare.ts";
import { redraw } from "../../../landscape/report/report.ts";
import { pointOf } from "../../../landscape/statistics/points.ts";
import { describe, throwsMessage } from "../../support.ts";
import { smallSweep, sweepCommand, sweepIn, warmModel } from "../given-sweep.ts";
import { contents, expectDone, expectSame, start } from "../tiny-study.ts";

const kl = 0.1;
const asked = { "landscape.directions.kl": kl };
const signal = new AbortController().signal;
const origin = { step: 0, slice: 0 };

describe("landscape/measure/grid-scales", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-grid-scales-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // The report shows a folder's name, so all have the same.
  const at = (name: string): string => join(place, name, "run");

  test("a quadratic field: each direction gets the scale of its own curvature", async () => {
    const radius = 0.05;
    const curvatures = { delta: 3, eta: 8000 };
    for (const target of [0.01, 0.03, 0.1, 0.3]) {
      const found = await scalesAtEdge(
        target,
        radius,
        async (axis, scale) => 0.5 * curvatures[axis] * (scale * radius) ** 2,
      );
      assert.is(found.radius, radius);
      for (const axis of ["delta", "eta"] as const) {
        const { scale, kl: reached, passes } = found[axis];
        const exact = Math.sqrt((2 * target) / curvatures[axis]) / radius;
        assert.ok(Math.abs((scale ?? 0) / exact - 1) < 0.025, `${axis}: ${scale}, expected ${exact}`);
        assert.ok(Math.abs((reached ?? 0) / target - 1) <= 0.05);
        assert.ok(passes.length <= 3, `${passes.length} passes: the power of two is the search's first guess`);
      }
    }
  });

  test("KL at the middle of the far edges is what was asked for, to the bit that the search found; a kill changes no byte", async () => {
    const said = await sweepIn(at("whole"), [warmModel], asked);
    assert.match(said, /Scaled to KL 0\.1 at the edge: δ × \d\S* \(KL 0\.\d+, \d pass/);
    const facts = readSliceFacts(at("whole"), origin, assert.unreachable);
    const files = readSlice(at("whole"), origin, assert.unreachable);
    if (facts?.fixedKl === undefined || files === null) throw new Error("no scales");
    for (const [axis, i, j] of [
      ["delta", 2, 1],
      ["eta", 1, 2],
    ] as const) {
      const reached = facts.fixedKl[axis].kl ?? 0;
      assert.ok(Math.abs(reached / kl - 1) <= 0.05, `${axis}: ${reached}`);
      const cell = files.cells.find((one) => one.i === i && one.j === j);
      if (cell === undefined) throw new Error(`no cell (${i}, ${j})`);
      assert.is(pointOf(cell, files.reference).kl_token, reached, axis);
    }
    const own = files.cells.find((one) => one.i === 1 && one.j === 1);
    assert.equal(own?.reference.kl.flat(), [0, 0, 0, 0], "KL at the checkpoint is 0 exactly");

    // Stopped after its first cell; the scales are then read, and not searched again.
    const killed = await sweepCommand(at("killed"), [warmModel], asked, { FOOTHOLD_KILL_AT: "cells:2" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    await sweepIn(at("killed"), [warmModel], asked);
    expectSame(contents(at("killed")), contents(at("whole")));

    const report = readFileSync(join(at("whole"), "report.html"), "utf8");
    assert.match(report, "KL at the edge is 0.1 nats per token in every map.");
    assert.match(report, "KL at the edge of δ");
    assert.match(
      readFileSync(join(at("whole"), "figures/reward-map.svg"), "utf8"),
      /α, (KL 0\.1 at the|edge: KL 0\.1)/,
    );
    assert.match(await comparison([at("whole")], assert.unreachable), /\| run \| 0 \| 0 \| 0\.1 \| \d/);
    const lines: string[] = [];
    assert.match(await redraw(at("whole"), (line) => lines.push(line), signal), "Scaled to KL 0.1 at the edge");
    assert.equal(lines, []);
  });

  test("the same bytes by shards, and by a map that grows; verify takes the scales of the folder", async () => {
    for (const part of ["0/2", "1/2"]) await sweepIn(at(`part-${part[0]}`), [warmModel], { ...asked, shard: part });
    await mergeShards(at("merged"), ["part-0", "part-1"].map(at), { allowMixed: false, say: assert.unreachable });
    await redraw(at("merged"), assert.unreachable, signal);
    expectSame(contents(at("merged")), contents(at("whole")));

    const verified = await start(["landscape/verify.ts", at("merged"), "--cell", "2:1,0:0"]).ended;
    expectDone(verified);

    const finer = { ...asked, "landscape.points": 5 };
    await sweepIn(at("fresh"), [warmModel], finer);
    await sweepIn(at("merged"), [warmModel], finer);
    expectSame(contents(at("merged")), contents(at("fresh")));
    for (const change of [
      { "landscape.radius": 0.1 },
      { "landscape.reference.prompts": 3 },
      { [`landscape.directions.kl`]: 0.3 },
    ])
      await throwsMessage(() => sweepIn(at("merged"), [warmModel], { ...finer, ...change }), Object.keys(change)[0]);
  });

  test("a KL that no scale reaches: the map is a gap that is said, also in merged shards, and nothing is left to measure", async () => {
    const far = { "landscape.directions.kl": 1e12, "landscape.slices": 2 };
    const said = await sweepIn(at("gap"), [warmModel], far);
    assert.match(
      said,
      /Step 0, slice 1: KL 1000000000000 at the edge \(landscape\.directions\.kl\) is not reached: no scale of δ was found in 6 passes/,
    );
    assert.match(said, /Incomplete: Step 0, slice 0: KL 1000000000000 .*This map is a gap\./);
    assert.equal(
      slicesToSweep(at("gap"), smallSweep({ ...far, checkpoints: [warmModel], "landscape.steps": [0] })),
      [],
    );
    assert.match(readFileSync(join(at("gap"), "report.html"), "utf8"), "This map is a gap");
    for (const part of ["0/2", "1/2"]) await sweepIn(at(`far-${part[0]}`), [warmModel], { ...far, shard: part });
    const lines: string[] = [];
    await mergeShards(at("far"), ["far-0", "far-1"].map(at), { allowMixed: false, say: (line) => lines.push(line) });
    assert.match(lines.join("\n"), "slice 1: KL 1000000000000 at the edge");
    await redraw(at("far"), () => {}, signal);
    expectSame(contents(at("far")), contents(at("gap")));
  });

  test("passes are planned; a grid beside the checkpoint has no such edge", () => {
    const shape = { "landscape.steps": [0, 3], "train.steps": 3, "train.checkpoints": [0, 3], "landscape.slices": 5 };
    assert.is(furtherWork(smallSweep({ ...shape, ...asked })).passes, 2 * 5 * 2 * 3);
    assert.is(furtherWork(smallSweep(shape)).passes, 0);
    assert.throws(
      () => smallSweep({ ...shape, ...asked, "landscape.centre.random": 0.05 }),
      /landscape\.directions\.kl: .*landscape\.centre/,
    );
  });
});
