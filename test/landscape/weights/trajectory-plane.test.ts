// The plane of a run's checkpoints: kept for these checkpoints alone, and drawn with one scale.
import * as assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { createProgress, sha256File } from "../../../engine/host/index.ts";
import { trajectoryPath } from "../../../landscape/files/layout.ts";
import { readRunSettings } from "../../../landscape/files/run-settings.ts";
import { trajectoryFigure } from "../../../landscape/report/figures/trajectory.ts";
import { computeTrajectory, readTrajectory } from "../../../landscape/weights/trajectory-plane.ts";
import { assertClose, describe, fixturePath } from "../../support.ts";

/** Adds a number to every element of a file of f32 tensors. */
function shiftWeights(path: string, by: (at: number) => number): void {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  for (let at = start; at + 4 <= bytes.length; at += 4) bytes.writeFloatLE(bytes.readFloatLE(at) + by(at), at);
  writeFileSync(path, bytes);
}

describe("landscape/weights/trajectory-plane", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-trajectory-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  const keep = (step: number, by: (at: number) => number): void => {
    const name = `step-${String(step).padStart(6, "0")}`;
    const folder = join(run, "checkpoints", name);
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    const path = join(folder, "model.safetensors");
    shiftWeights(path, by);
    const sums = readdirSync(folder)
      .sort()
      .map((file) => `${sha256File(join(folder, file))}  ${name}/${file}\n`);
    writeFileSync(`${folder}.sha256`, sums.join(""));
  };

  test("it is computed once, from sound checkpoints; a right angle is one", async () => {
    mkdirSync(join(run, "checkpoints"), { recursive: true });
    writeFileSync(
      join(run, "config.toml"),
      "[environment]\nname = 'alphabet-sort'\n[train]\nsteps = 2\ncheckpoints = [0, 1, 2]\n[evaluate]\nevery = 1\n[landscape]\nsteps = []\n",
    );
    writeFileSync(join(run, "metrics.jsonl"), '{"step":0}\n{"step":1}\n{"step":2}\n');
    // First along elements of even place, then as far along the odd ones: two sides of a right angle.
    const isEven = (at: number): boolean => at % 8 === 0;
    keep(0, () => 0);
    keep(1, (at) => (isEven(at) ? 0.5 : 0));
    const settings = await readRunSettings(run);
    const progress = createProgress({ stream: new PassThrough(), quiet: true });
    const compute = () => computeTrajectory(run, settings, progress, new AbortController().signal);
    await assert.rejects(compute(), /needs at least 3 checkpoints, .* has 2/);
    keep(2, () => 0.5);
    await compute();
    const path = trajectoryPath(run);
    const found = JSON.parse(readFileSync(path, "utf8"));
    const at = found.checkpoints.map(({ coordinates }: { coordinates: [number, number] }) => coordinates);
    const side = (a: number, b: number): number => Math.hypot(at[a][0] - at[b][0], at[a][1] - at[b][1]);
    assertClose("equal sides", [side(0, 1) / side(1, 2)], [1], { absolute: 1e-2 });
    assertClose("hypotenuse", [side(0, 2)], [Math.hypot(side(0, 1), side(1, 2))], { relative: 1e-6 });
    assertClose("shares", found.shares, [0.75, 0.25], { absolute: 1e-2 });
    const csv = trajectoryFigure(found).csv.split("\n");
    assert.equal(csv[0], "step,component_1,component_2,share_1,share_2");
    assert.equal(csv[1].split(",")[1], String(at[0][0]));

    // It is kept for these checkpoints; other ones are computed again, and changed ones refused.
    const before = readFileSync(path, "utf8");
    writeFileSync(path, before.replace('"coordinates"', '"note": "kept", "coordinates"'));
    await compute();
    assert.ok(readFileSync(path, "utf8").includes("kept"));
    writeFileSync(path, before.replace(/"digest": "[0-9a-f]{4}/, '"digest": "beef'));
    assert.equal(readTrajectory(run, settings), null);
    await compute();
    assert.equal(readFileSync(path, "utf8"), before);
    rmSync(path);
    shiftWeights(join(run, "checkpoints/step-000001/model.safetensors"), () => 0.1);
    await assert.rejects(compute(), /step-000001/);
    assert.ok(!existsSync(path));
  });

  test("both axes have one scale: a square stays a square", () => {
    const corners = [
      [0, 0],
      [2, 0],
      [2, 2],
      [0, 2],
    ];
    const checkpoints = corners.map(([x, y], step) => ({ step, digest: "", coordinates: [x, y] as [number, number] }));
    const { svg } = trajectoryFigure({ schemaVersion: 1, shares: [0.6, 0.4], checkpoints });
    const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
    assert.equal(circles.length, 4);
    assertClose("sides", [circles[1][0] - circles[0][0]], [circles[0][1] - circles[3][1]], { relative: 1e-2 });
    assert.match(svg, />component 1 \(60\.0% of the variance\)</);
  });
});
