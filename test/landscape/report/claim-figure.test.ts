// The figure and the page section of a claim: what is drawn, what is not, and that the numbers are those given.
import * as assert from "uvu/assert";
import { readTomlFile, resolveSettings } from "../../../engine/host/index.ts";
import { claimFigure } from "../../../landscape/report/figures/claim-figure.ts";
import { renderReport } from "../../../landscape/report/page.ts";
import { isStudyLike } from "../../../landscape/report/study-like.ts";
import { studySettings } from "../../../landscape/settings.ts";
import type { Claim } from "../../../landscape/statistics/claims/claim.ts";
import { filesOf } from "../../../rl/index.ts";
import { describe } from "../../support.ts";
import { syntheticStudy } from "../synthetic-study.ts";
import { textFaults } from "./figures/text-boxes.ts";

const estimate = (value: number, reach: number) => ({
  value,
  low: value - reach,
  high: value + reach,
  standardError: reach,
});
const claim: Claim = {
  name: "t1",
  title: "T1: a <claim>",
  claimed: "What is claimed.",
  concluded: "What is concluded.",
  verdict: "shown in part",
  refutedBy: "What refutes it.",
  limits: ["A limit."],
  tables: [
    {
      caption: "A table.",
      columns: [{ name: "step" }, { name: "r", digits: 2 }],
      rows: [
        [0, estimate(-0.5, 0.1)],
        [5, { value: 0.25, low: null, high: null, standardError: null }],
        [10, { value: null, low: null, high: null, standardError: null }],
        [20, null],
        [30, "cannot differ"],
      ],
    },
  ],
  plot: {
    xLabel: "training step",
    xScale: "linear",
    panels: [
      {
        title: "r",
        range: [-1, 1],
        level: 0,
        series: [
          {
            name: "this run",
            kind: "line",
            points: [
              { x: 0, value: -0.5, low: -0.6, high: -0.4 },
              { x: 5, value: 0.25, low: null, high: null },
              { x: 10, value: null, low: null, high: null },
              { x: 20, value: -0.75, low: -60, high: 60 },
            ],
          },
          { name: "published", kind: "published", points: [{ x: 0, value: 0.096, low: null, high: null }] },
        ],
      },
      {
        title: "a histogram",
        xLabel: "tenth",
        series: [{ name: "only", kind: "expected", points: [{ x: 1, value: 0.5, low: null, high: null }] }],
      },
    ],
    notes: ["A note."],
  },
};

describe("landscape/report/claim-figure", (test) => {
  test("lists every number as CSV; undetermined and published ones are marked", () => {
    const { csv, name } = claimFigure(claim);
    assert.is(name, "claim-t1");
    assert.equal(csv.trim().split("\n"), [
      "panel,series,x,value,low,high,remark",
      "r,this run,0,-0.5,-0.6,-0.4,",
      "r,this run,5,0.25,,,",
      "r,this run,10,,,,undetermined",
      "r,this run,20,-0.75,-60,60,",
      "r,published,0,0.096,,,published by the original study",
      "a histogram,only,1,0.5,,,",
    ]);
  });

  test("marks: a dot per known value, a hollow diamond for a published one, bars only where there is an interval", () => {
    const { svg } = claimFigure(claim);
    // Three known values, the legend's mark, and the histogram's one value.
    assert.is(svg.match(/<circle /g)?.length, 3 + 1 + 1);
    const hollow = svg.match(/<path d="[^"]*Z" fill="none" stroke="#1d1f24"/g);
    assert.is(hollow?.length, 2, "the published value and its legend's mark");
    assert.is(svg.match(/stroke-opacity="0.7"/g)?.length, 2, "bars at steps 0 and 20");
    assert.match(svg, "training step");
    assert.match(svg, "tenth");
    assert.match(svg, "A note.");
    assert.match(svg, "T1: a &lt;claim&gt;");
    // An interval far wider than the values does not flatten them: the axis does not reach ±60.
    assert.not.match(svg, />60</);
    assert.not.match(svg, /NaN|Infinity|undefined/);
  });

  test("18 series of a panel look different, and the first six in grey too", () => {
    const point = { x: 1, value: 0.5, low: null, high: null };
    const looks = (series: number): string[] => {
      const names = Array.from({ length: series }, (_, k) => `slice ${k}`);
      const panel = { title: "r", series: names.map((name) => ({ name, kind: "line" as const, points: [point] })) };
      const { svg } = claimFigure({ ...claim, plot: { xLabel: "step", xScale: "linear", panels: [panel], notes: [] } });
      // The legend's marks: shape, fill and stroke, without the place.
      const marks = [
        ...svg.matchAll(
          /<(circle|rect|path) (?:[^>]*?Z" |c[^>]*?r="[^"]*" |x[^>]*?height="[^"]*" )(fill="[^"]*"(?: stroke="[^"]*")?)/g,
        ),
      ];
      return marks.map(([, shape, paint]) => `${shape} ${paint}`).slice(0, series);
    };
    const many = looks(18);
    assert.is(many.length, 18);
    assert.is(new Set(many).size, 18, many.join("\n"));
    const grey = looks(6).map((look) => look.replace(/(fill|stroke)="#[^"]*"/g, "$1"));
    assert.is(new Set(grey).size, 6, grey.join("\n"));
  });

  test("an empty panel, one point and a logarithmic axis can be drawn", () => {
    const point = { x: 0.02, value: 1, low: null, high: null };
    for (const points of [[], [point], [point, { ...point, x: 0.3, value: 2 }]]) {
      const { svg } = claimFigure({
        ...claim,
        plot: {
          xLabel: "KL",
          xScale: "log",
          panels: [{ title: "empty", series: [{ name: "one", kind: "line", points }] }],
          notes: [],
        },
      });
      assert.not.match(svg, /NaN|Infinity|undefined/);
    }
    assert.throws(() => claimFigure({ ...claim, plot: null }), /expected a claim with numbers to draw/);
  });

  test("panels above one labelled axis have its ends, and labels of a logarithmic axis stand apart", () => {
    const at = (x: number) => ({ x, value: 0.5, low: null, high: null });
    const panel = (title: string, ...xs: number[]) => ({
      title,
      series: [{ name: "one", kind: "line" as const, points: xs.map(at) }],
    });
    for (const [least, most] of [
      [0.0087, 0.11],
      [0.05, 0.2],
      [1e-4, 3],
    ]) {
      const panels = [panel("narrow", 2 * least, most), panel("wide", least, most)];
      const { svg } = claimFigure({ ...claim, plot: { xLabel: "KL", xScale: "log", panels, notes: [] } });
      assert.equal(textFaults(svg), []);
      // One value stands at one place in both panels.
      const places = [...svg.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => Number(x));
      assert.is(places.length, 4, svg);
      assert.is(places[1], places[3]);
      assert.ok(places[0] > places[2] + 1);
    }
  });

  test("the page: every sentence, verdict and number, and no section without claims", () => {
    const study = syntheticStudy([0, 5], [0]);
    const page = renderReport({ ...study, claims: [claim] });
    const section = page.slice(page.indexOf('id="claims"'), page.indexOf('id="reading-guide"'));
    for (const text of [
      ...[
        "What is claimed.",
        "What is concluded.",
        "What refutes it.",
        "A limit.",
        "Concluded: shown in part",
        "A table.",
      ],
      ...['−0.50 <span class="range">[−0.60, −0.40]</span>', '0.25 <span class="range">(no interval)</span>'],
      ...["undetermined", "cannot differ", "T1: a &lt;claim&gt;"],
    ])
      assert.ok(section.includes(text), text);
    assert.not.match(section, /\b(?:NaN|undefined|null)\b/);
    assert.not.match(renderReport(study), 'id="claims"');
    const long = { ...claim.tables[0], rows: Array.from({ length: 100 }, (_, k) => [k, `row ${k}.`]) };
    const shortened = renderReport({ ...study, claims: [{ ...claim, tables: [long] }] });
    assert.match(shortened, "Shown: the first and the last 20 of 100 rows; landscape/claims.json has all.");
    assert.ok(shortened.includes("row 19.") && !shortened.includes("row 20.") && shortened.includes("row 80."));
  });

  test("the study's presets are study-like, with other seeds too; another radius, task or model is not", () => {
    const settingsOf = (preset: string, values: Record<string, unknown> = {}) =>
      resolveSettings(studySettings, [
        ...filesOf(studySettings, [preset]).map((file) => readTomlFile(studySettings, file)),
        { given: Object.entries(values).map(([key, value]) => ({ key, value, where: "test" })), problems: [] },
      ]);
    assert.is(isStudyLike(settingsOf("study")), true);
    assert.is(isStudyLike(settingsOf("first-steps")), true);
    assert.is(isStudyLike(settingsOf("study", { "train.seed": 7, "landscape.slices": 5 })), true);
    assert.is(isStudyLike(settingsOf("study", { "model.path": "models/Qwen2.5-0.5B-Instruct" })), true);
    assert.is(isStudyLike(settingsOf("study", { "model.path": "Qwen/Qwen2.5-1.5B-Instruct" })), false);
    assert.is(isStudyLike(settingsOf("study", { "landscape.points": 11 })), false);
    for (const other of ["wide", "quick", "tiny", "gsm8k"]) assert.is(isStudyLike(settingsOf(other)), false, other);
  });
});
