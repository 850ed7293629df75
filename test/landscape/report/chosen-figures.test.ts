// Single figures at the size of a paper: the command writes four files each, and says what is wrong before it begins.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sliceFolder } from "../../../landscape/files/layout.ts";
import {
  type ChosenFigures,
  drawFigures,
  figureList,
  figureProblems,
  lengthMm,
} from "../../../landscape/report/chosen-figures.ts";
import { FIGURES } from "../../../landscape/report/figures/study-figures.ts";
import { metricsPath } from "../../../rl/files/layout.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";
import { syntheticPlace, writeSyntheticRun } from "../synthetic-run.ts";
import { syntheticStudy } from "../synthetic-study.ts";
import { root } from "../tiny-study.ts";

const defaults: ChosenFigures = {
  figure: ["reward-map"],
  width: "",
  "font-size": 7.5,
  dpi: 300,
  step: [],
  slice: [],
  quantity: "reward",
  "shared-colours": false,
};

/** Problems of flags as they were typed. */
const problems = (typed: Partial<ChosenFigures>) =>
  figureProblems({ ...defaults, ...typed }, new Set(Object.keys(typed))).join("\n");

const study = syntheticStudy([0, 5, 10], [0, 1]);
const draw = (typed: Partial<ChosenFigures>, of = study) =>
  drawFigures(of, { ...defaults, ...typed }, new Set(Object.keys(typed)));
const names = (typed: Partial<ChosenFigures>, of = study) => draw(typed, of).map(({ name }) => name);

describe("landscape/report/chosen-figures", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-chosen-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const command = (...argv: string[]) =>
    spawnSync(process.execPath, [join(root, "landscape/report.ts"), ...argv], { cwd: place, encoding: "utf8" });

  test("the command writes SVG, PDF, PNG and CSV of one figure, at its size", () => {
    writeSyntheticRun(join(place, "run"));
    const before = readdirSync(join(place, "run"));
    const { status, stdout, stderr } = command(
      ...["run", "--figure", "reward-map,reward-curves", "--width", "84mm", "--font-size", "8", "--dpi", "100"],
      ...["--out", "paper"],
    );
    assert.is(status, 0, stderr);
    const files = ["reward-map", "reward-curves"].flatMap((name) =>
      ["svg", "pdf", "png", "csv"].map((end) => `${name}.${end}`),
    );
    assert.equal(
      stdout.trim().split("\n"),
      files.map((file) => join("paper", file)),
    );
    assert.equal(readdirSync(join(place, "paper")).sort(), files.sort());
    const read = (file: string) => readFileSync(join(place, "paper", file));
    assert.match(read("reward-map.svg").toString(), / width="84mm" .* font-size="8" .*@font-face/s);
    assert.is(read("reward-map.png").readUInt32BE(16), Math.round((84 / 25.4) * 100));
    assert.match(read("reward-map.pdf").toString("latin1"), /^%PDF-.*\/MediaBox \[0 0 238\.11 /s);
    assert.is(read("reward-map.csv").toString().split("\n").length, 1 + 9 + 1);
    // Rings of a 3 × 3 grid: the centre, and its eight neighbours.
    const rings = read("reward-curves.csv").toString().trimEnd().split("\n");
    assert.equal(
      rings.map((row) => row.split(",").slice(2, 4).join()),
      ["ring,cells", "0,1", "1,8"],
    );
    assert.not.match(rings[2], /,$/, "four prompts give an interval");
    assert.equal(readdirSync(join(place, "run")), before, "nothing else in the run folder");
    const again = command("run", "--figure", "reward-curves");
    assert.is(again.status, 0, again.stderr);
    assert.ok(existsSync(join(place, "run/figures/paper/reward-curves.pdf")), "the default place");
  });

  test("list prints every name, with and without a run", () => {
    const { status, stdout } = command("--figure", "list");
    assert.is(status, 0);
    assert.is(stdout, figureList());
    const lines = stdout.trimEnd().split("\n");
    assert.equal(
      lines.map((line) => line.split(" ")[0]),
      FIGURES.map(({ name }) => name),
    );
    FIGURES.forEach(({ shows }, k) => {
      assert.ok(lines[k].includes(shows), lines[k]);
    });
  });

  test("a mistake is one message, exit code 2, and nothing is written", () => {
    for (const [argv, ...parts] of [
      [["run", "--figure", "reward-mapp"], 'no figure "reward-mapp"', "Did you mean reward-map?", "training-health"],
      [["run", "--figure", "reward-map", "--width", "50mm", "--font-size", "8"], "at least 63 mm at 8 pt, got 50 mm"],
      [["--figure", "reward-map"], "RUN is missing"],
      [[], "RUN is missing"],
      [["run", "--width", "84mm"], "--width: applies to single figures only; name one with --figure"],
    ] as [string[], ...string[]][]) {
      const { status, stdout, stderr } = command(...argv, "--out", "mistake");
      assert.is(status, 2, stderr);
      assert.is(stdout, "");
      for (const part of parts) assert.ok(stderr.includes(part), `${stderr} has ${part}`);
      assert.not.match(stderr, /\n {4}at /);
    }
    assert.not.ok(existsSync(join(place, "mistake")));
  });

  test("a figure whose data a run lacks: which measurement, and how to get it", () => {
    writeSyntheticRun(join(place, "bare"));
    writeFileSync(metricsPath(join(place, "bare")), "");
    const { status, stderr } = command("bare", "--figure", "training", "--out", "none");
    assert.is(status, 2);
    assert.match(
      stderr,
      /--figure training: metrics\.jsonl has no reward .* node rl\/train\.ts, with train\.steps above 0\./,
    );
    assert.not.ok(existsSync(join(place, "none")));
  });

  test("a run with missing and damaged cells: visible gaps, and the figure says how many there are", () => {
    const folder = join(place, "partial");
    writeSyntheticRun(folder, 7);
    const cells = join(sliceFolder(folder, syntheticPlace), "cells.jsonl");
    const lines = readFileSync(cells, "utf8").trimEnd().split("\n");
    // As an interrupted write leaves it: the last cell is cut off.
    writeFileSync(cells, `${lines.slice(0, -1).join("\n")}\n${lines.at(-1)?.slice(0, 40)}`);
    const { status, stderr } = command("partial", "--figure", "reward-map,surface", "--out", "gaps");
    assert.is(status, 0, stderr);
    const svg = (name: string) => readFileSync(join(place, "gaps", `${name}.svg`), "utf8");
    const crosses = svg("reward-map").match(/<path d="([^"]*)"[^>]*class="unmeasured"/)?.[1] ?? "";
    assert.is(crosses.match(/M/g)?.length, 2 * 3, "three of nine cells have a cross");
    assert.match(svg("reward-map"), "Empty cells with a cross: not measured.");
    assert.match(svg("surface"), "Gaps: not measured.");
    for (const name of ["reward-map", "surface"]) assert.match(svg(name), "6 of 9 cells");
    assert.match(stderr, "6 of 9 cells are measured");
  });

  test("lengths", () => {
    const typed = ["84mm", "8.4cm", "3.5in", "240pt", "84", " 84 mm "];
    assertClose(
      "mm",
      typed.map((text) => lengthMm(text) ?? Number.NaN),
      [84, 84, 88.9, 84.6667, 84, 84],
      { absolute: 1e-4 },
    );
    for (const wrong of ["", "mm", "84px", "-84mm", "8,4cm", "1e2mm"]) assert.is(lengthMm(wrong), null, wrong);
    assert.match(
      problems({ width: "84px" }),
      '--width: expected a length such as 84mm, 8.4cm, 3.3in or 240pt, got "84px"',
    );
    assert.match(problems({ width: "1000mm", dpi: 2400 }), "--dpi: 1000 mm at 2400 dots per inch are 94488 pixels");
    assert.is(problems({ width: "174mm", "font-size": 9, dpi: 600 }), "");
  });

  test("steps, slices and quantity choose, and are in the name", () => {
    assert.equal(names({}), ["reward-map-slice-0", "reward-map-slice-1"]);
    assert.equal(names({ step: [5], slice: [1] }), ["reward-map-step-5-slice-1"]);
    assert.equal(names({ figure: ["surface"], quantity: "kl", step: [0, 10], slice: [0] }), [
      "surface-kl-step-0-10-slice-0",
    ]);
    assert.equal(names({ figure: ["correlation", "training"], step: [0, 10] }), ["correlation-step-0-10", "training"]);
    const [one] = draw({ step: [5], slice: [1] });
    const rows = one.csv.trimEnd().split("\n").slice(1);
    assert.is(rows.length, 49);
    assert.ok(rows.every((row) => row.startsWith("5,1,")));
    const steps = draw({ figure: ["correlation"], step: [0, 10] })[0]
      .csv.trimEnd()
      .split("\n")
      .slice(1);
    assert.equal([...new Set(steps.map((row) => row.split(",")[2]))], ["0", "10"]);
  });

  test("all draws every figure that the run has", () => {
    const whole = syntheticStudy([0, 5, 10], [0]);
    assert.equal(
      names({ figure: ["all"] }, whole),
      // The made-up study has no claims; report/claim-figure.test.ts draws theirs. It has no rays and no noise floor either.
      FIGURES.map(({ name }) => name).filter(
        (name) => !name.startsWith("claim-") && !["rays", "density", "worst-rays", "noise-floor"].includes(name),
      ),
    );
    assert.equal(names({ figure: ["all"] }, { ...whole, maps: [] }), ["training", "training-health"]);
  });

  test("one colour scale across checkpoints on request", () => {
    const ends = (typed: Partial<ChosenFigures>) =>
      draw({ step: [0], slice: [0], ...typed })[0]
        .csv.split("\n")[1]
        .split(",")
        .slice(-2)
        .map(Number);
    const rewards = (of: typeof study.maps) => of.flatMap(({ points }) => points.map(({ reward }) => reward));
    const extent = (values: number[]) => [Math.min(...values), Math.max(...values)];
    assert.equal(ends({}), extent(rewards([study.maps[0]])));
    assert.equal(ends({ "shared-colours": true }), extent(rewards([...study.maps])));
  });

  test("choices that a figure does not have, and steps that are not measured, are refused", async () => {
    assert.match(
      problems({ figure: ["training"], step: [5] }),
      "--step: has no effect on training. It applies to reward-map,",
    );
    assert.match(problems({ quantity: "kl" }), "--quantity: has no effect on reward-map. It applies to surface.");
    assert.is(problems({ figure: ["all"], quantity: "kl", step: [5] }), "");
    await throwsMessage(
      () => draw({ step: [7] }),
      "--step: checkpoint 7 has no landscape in this run; measured: 0, 5, 10",
    );
    await throwsMessage(() => draw({ slice: [2] }), "--slice: slice 2 has no landscape in this run; measured: 0, 1");
    const holed = { ...study, maps: study.maps.filter(({ step, slice }) => step === 0 || slice === 0) };
    await throwsMessage(() => draw({ step: [5], slice: [1] }, holed), "step 5 is not measured in slice 1");
  });

  test("each figure says what it lacks", async () => {
    const silent = study.maps.map((map) => ({ ...map, points: map.points.map((p) => ({ ...p, objective: null })) }));
    const lacking: readonly (readonly [string, Partial<typeof study>, Partial<ChosenFigures>, string])[] = [
      ["reward-map", { maps: [] }, {}, "no landscape is measured. node landscape/run.ts"],
      ["reward-curves", { maps: [] }, {}, "no landscape is measured"],
      ["correlation", { maps: [] }, {}, "no landscape is measured"],
      ["surface", { maps: [] }, {}, "no landscape is measured"],
      ["objective-map", { maps: silent }, {}, "no map has a J at its centre"],
      ["surface", { maps: silent }, { quantity: "objective" }, "no map has a J at its centre"],
      ["reward-map-own-colours", { maps: study.maps.slice(0, 1) }, {}, "draw that figure"],
      ["training", { training: [] }, {}, "metrics.jsonl has no reward"],
      ["training-health", { training: [] }, {}, "metrics.jsonl has none of entropy"],
    ];
    for (const [name, change, typed, part] of lacking)
      await throwsMessage(
        () => draw({ figure: [name], ...typed }, { ...study, ...change }),
        `--figure ${name}: `,
        part,
      );
    await throwsMessage(
      () => draw({ figure: ["all"] }, { ...study, maps: [], training: [] }),
      "nothing is measured yet",
    );
  });
});
