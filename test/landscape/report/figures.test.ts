import * as assert from "uvu/assert";
import { colourOf, SEQUENTIAL, sequential } from "../../../landscape/report/figures/colour.ts";
import { correlationFigure } from "../../../landscape/report/figures/correlation.ts";
import type { DrawnEstimate, Study } from "../../../landscape/report/figures/figure-data.ts";
import { gridValues } from "../../../landscape/report/figures/figure-data.ts";
import { drawnIsolines, heatmapFigure, isolineLevels } from "../../../landscape/report/figures/heatmap.ts";
import {
  evenLevels,
  growingLevels,
  isolines,
  levelText,
  rootOfKl,
} from "../../../landscape/report/figures/isolines.ts";
import { mapsCsv } from "../../../landscape/report/figures/map-table.ts";
import { pixelsOf, renderPng } from "../../../landscape/report/figures/png.ts";
import { rewardKlFigure } from "../../../landscape/report/figures/reward-kl.ts";
import { studyFigures } from "../../../landscape/report/figures/study-figures.ts";
import { escapeText, textWidth } from "../../../landscape/report/figures/svg.ts";
import { trainingFigure } from "../../../landscape/report/figures/training.ts";
import { assertClose, describe, throwsMessage } from "../../support.ts";
import { syntheticMap, syntheticStudy } from "../synthetic-study.ts";

/** Values of (x − cx)² + (y − cy)² at whole x, y. */
const bowl = (n: number, cx: number, cy: number) =>
  Float64Array.from({ length: n * n }, (_, k) => ((k % n) - cx) ** 2 + (Math.floor(k / n) - cy) ** 2);

const pngSize = (png: Uint8Array) => {
  const view = new DataView(png.buffer, png.byteOffset);
  return [view.getUint32(16), view.getUint32(20)];
};

/** Rows of a CSV without quotes, by column name. */
const readCsv = (text: string) => {
  const [header, ...lines] = text.trimEnd().split("\n");
  const names = header.split(",");
  return lines.map((line) => Object.fromEntries(line.split(",").map((field, k) => [names[k], field])));
};

describe("landscape/figures: isolines", (test) => {
  test("of a bowl are circles of radius √level", () => {
    for (const [n, cx, cy] of [
      [7, 3, 3],
      [8, 3.5, 3.5],
      [21, 10, 10],
      [21, 9.3, 11.2],
    ])
      for (const level of [2, 4.2, 6.25, 0.6 * (n / 2) ** 2].filter((c) => Math.sqrt(c) > 1.3)) {
        const radius = Math.sqrt(level);
        const lines = isolines(bowl(n, cx, cy), n, level, rootOfKl);
        assert.is(lines.length, 1, `one line at level ${level} of ${n} × ${n}`);
        const [line] = lines;
        assert.equal(line[0], line[line.length - 1], "the circle is closed");
        for (const [x, y] of line) {
          // Along a grid edge the distance ρ is interpolated linearly between neighbours: |error| ≤ h²/8 · max ρ'', and
          // ρ'' ≤ 1/ρ ≤ 1/(radius − 1) on an edge that the circle crosses, with h = 1.
          const error = Math.abs(Math.hypot(x - cx, y - cy) - radius);
          assert.ok(error <= 1 / (8 * (radius - 1)) + 1e-12, `(${x}, ${y}) is ${error} off radius ${radius}`);
        }
        // A polygon inside a circle, with at least four corners in each quadrant's worth of squares, is not much shorter.
        const length = line.slice(1).reduce((sum, [x, y], k) => sum + Math.hypot(x - line[k][0], y - line[k][1]), 0);
        assert.ok(length > 0.93 * 2 * Math.PI * radius && length < 1.05 * 2 * Math.PI * radius, `length ${length}`);
      }
  });

  test("without a transform interpolate the value itself", () => {
    const level = 30;
    for (const [x, y] of isolines(bowl(21, 10, 10), 21, level)[0]) {
      // Between neighbours of a parabola with second derivative 2 the chord is above it by at most ¼.
      const value = (x - 10) ** 2 + (y - 10) ** 2;
      assert.ok(value <= level + 1e-9 && value >= level - 0.25 - 1e-9, `value ${value}`);
    }
  });

  test("end at the rim of the grid, and stay out of squares with a missing corner", () => {
    const n = 9;
    const cut = isolines(bowl(n, 4, 4), n, 20, rootOfKl); // a circle wider than the grid: four arcs in its corners
    assert.is(cut.length, 4);
    for (const line of cut)
      for (const [x, y] of line) assert.ok(x >= 0 && y >= 0 && x <= n - 1 && y <= n - 1, `(${x}, ${y}) is on the grid`);
    for (const line of cut)
      for (const [x, y] of [line[0], line[line.length - 1]]) assert.ok([x, y].some((c) => c === 0 || c === n - 1));

    const values = bowl(n, 4, 4);
    values[4 * n + 6] = Number.NaN; // the sample at (6, 4), on a circle of radius 2.2
    const opened = isolines(values, n, 4.84, rootOfKl);
    assert.is(opened.length, 1);
    const [line] = opened;
    assert.not.equal(line[0], line[line.length - 1], "the circle is open");
    line.slice(1).forEach(([x, y], k) => {
      const [mx, my] = [(x + line[k][0]) / 2, (y + line[k][1]) / 2];
      assert.ok(Math.abs(mx - 6) > 1 || Math.abs(my - 4) > 1, `(${mx}, ${my}) is next to the missing sample`);
    });
  });

  test("a level outside the values has no line", () => {
    assert.equal(isolines(bowl(7, 3, 3), 7, -1), []);
    assert.equal(isolines(bowl(7, 3, 3), 7, 1000), []);
  });

  test("alpha runs to the right and beta upwards, as the squares do", () => {
    const map = syntheticMap(0, 0, 21);
    const points = map.points.map((point) => {
      const [a, b] = [point.alpha / map.radius, point.beta / map.radius];
      return { ...point, klToken: (a - 0.4) ** 2 + (b - 0.3) ** 2 };
    });
    const frame = { left: 100, top: 50, width: 420, height: 420 };
    const [{ lines, label }] = drawnIsolines({ ...map, points }, "kl", [0.09], frame, 5);
    const line = [...lines.flat(), [label.x, label.y]]; // the number stands in a gap of the line
    const [xs, ys] = [line.map(([x]) => x), line.map(([, y]) => y)];
    // 21 squares of 20: the samples span 400, so a coordinate of 1 is 200, and (0.4, 0.3) lies right of and above the centre.
    assertClose(
      "middle",
      [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2],
      [310 + 80, 260 - 60],
      { absolute: 2 },
    );
  });

  test("levels are round, in order, and between the ends", () => {
    assert.equal(growingLevels(0.0013, 0.09), [0.002, 0.005, 0.01, 0.02, 0.05]);
    assert.equal(growingLevels(0, 0), []);
    for (const [low, high] of [
      [1e-7, 3e-5],
      [0.3, 0.4],
      [0.001, 900],
    ]) {
      const levels = growingLevels(low, high);
      assert.ok(
        levels.length <= 6 &&
          levels.every((level, k) => level > low && level < high && (k === 0 || level > levels[k - 1])),
      );
    }
    assert.equal(evenLevels(-0.031, 0.012), [-0.03, -0.02, -0.01, 0, 0.01]);
    assert.equal([0.005, -0.02, 0, 2e-5, 1500].map(levelText), ["0.005", "−0.02", "0", "2·10⁻⁵", "1500"]);
  });

  test("each drawn level carries its number in a gap of its line, inside the frame, clear of the others", () => {
    const frame = { left: 10, top: 20, width: 140, height: 140 };
    for (const n of [7, 11, 21]) {
      const map = syntheticMap(10, 0, n);
      const drawn = drawnIsolines(map, "kl", isolineLevels([map], "kl"), frame, 6);
      assert.ok(drawn.length >= 3, `${drawn.length} levels`);
      for (const { lines, label } of drawn) {
        const half = textWidth(label.text, 6) / 2;
        assert.ok(label.x - half >= 10 && label.x + half <= 150 && label.y - half >= 20 && label.y + half <= 160);
        assert.ok(Math.abs(label.angle) <= 90, "the number is upright");
        for (const [x, y] of lines.flat())
          assert.ok(Math.hypot(x - label.x, y - label.y) >= half, "the line leaves room");
        for (const other of drawn)
          if (other.label !== label) assert.ok(Math.hypot(other.label.x - label.x, other.label.y - label.y) > 6);
      }
    }
  });
});

describe("landscape/figures: drawings", (test) => {
  const study = syntheticStudy([0, 5, 10], [0]);

  test("one colour scale serves all panels, and every square has its value's colour", () => {
    const { svg } = heatmapFigure(study.maps, "reward");
    const values = study.maps.flatMap((map) => [...gridValues(map, "reward")]);
    const scale = sequential(Math.min(...values), Math.max(...values));
    const squares = svg.match(/<g shape-rendering="crispEdges">(<rect [^>]*\/>)+<\/g>/g) ?? [];
    const fills = squares.map((group) => [...group.matchAll(/fill="(#[0-9a-f]{6})"/g)].map(([, fill]) => fill));
    assert.equal(
      fills.slice(0, study.maps.length).flat(),
      values.map((value) => colourOf(scale, value)),
    );
  });

  test("squares tile the frame, alpha to the right and beta upwards", () => {
    const [{ n }] = study.maps;
    const { svg } = heatmapFigure([study.maps[0]], "reward");
    const group = svg.match(/<g shape-rendering="crispEdges">((<rect [^>]*\/>)+)<\/g>/)?.[1] ?? "";
    const squares = [...group.matchAll(/x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"/g)].map(
      ([, x, y, width, height]) => [Number(x), Number(y), Number(width), Number(height)],
    );
    assert.is(squares.length, n * n);
    const [left] = squares[0]; // (0, 0): the lower left corner
    const bottom = squares[0][1] + squares[0][3];
    const cell = squares[n - 1][2]; // the last of a row reaches under no neighbour
    squares.forEach(([x, y, width, height], k) => {
      const place = [left + (k % n) * cell, bottom - Math.floor(k / n) * cell];
      // Three numbers rounded to 0.01 and a side taken n times.
      assertClose(`left and lower edge of square ${k}`, [x, y + height], place, { absolute: 0.005 * (3 + n) });
      for (const extent of [width, height]) assert.ok(extent >= cell - 0.02 && extent <= 1.15 * cell);
    });
  });

  test("the colours of maps grow lighter throughout, so grey print keeps their order", () => {
    const lightness = SEQUENTIAL.map((hex) => {
      const [r, g, b] = [1, 3, 5].map((at) => (Number.parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    });
    for (let k = 1; k < lightness.length; k++) assert.ok(lightness[k] > lightness[k - 1] - 2e-3, `entry ${k}`);
    assert.ok(lightness[255] > 0.7 && lightness[0] < 0.03);
  });

  test("are well-formed, the same bytes twice, and whatever the order of maps and points", async () => {
    const shuffled: Study = {
      ...study,
      maps: [...study.maps].reverse().map((map) => ({ ...map, points: [...map.points].reverse() })),
      training: [...study.training].reverse(),
    };
    const [figures, again, others] = [
      studyFigures(study),
      studyFigures(structuredClone(study)),
      studyFigures(shuffled),
    ];
    assert.equal(
      [...figures.keys()],
      [
        "reward-map",
        "reward-map-own-colours",
        "kl-map",
        "objective-map",
        "surface",
        "reward-kl",
        "reward-curves",
        "kl-from",
        "correlation",
        "correlation-all",
        "training",
        "training-health",
        "trajectory",
      ],
    );
    for (const [name, draw] of figures) {
      const { svg, csv } = draw();
      assert.is(draw().name, name);
      assert.is(again.get(name)?.().svg, svg, name);
      if (name !== "reward-kl") assert.is(others.get(name)?.().svg, svg, `${name}, shuffled`);
      assert.is(others.get(name)?.().csv, csv, `${name}, shuffled`);
      assert.not.match(svg, /NaN|undefined|Infinity/);
      assert.not.match(svg, /="[^"]*\d\.\d{3}/, "two decimals at most");
      await renderPng(svg, 60); // resvg's parser refuses what is not XML
    }
    assert.ok(studyFigures(syntheticStudy([0, 1], [0, 1])).has("reward-map-slice-1"));
  });

  test("have the width, font size and pixels asked for", async () => {
    for (const [widthMm, fontPt] of [
      [84, 7],
      [174, 9],
      [60, 6],
    ]) {
      const { svg } = heatmapFigure(study.maps, "reward", { widthMm, fontPt });
      assert.match(svg, ` width="${widthMm}mm"`);
      assert.match(svg, ` font-size="${fontPt}"`);
      const heightMm = Number(svg.match(/height="([\d.]+)mm"/)?.[1]);
      const [width, height] = pngSize(await renderPng(svg, pixelsOf(widthMm, 200)));
      assert.is(width, Math.round((widthMm / 25.4) * 200));
      // resvg takes the height in whole pixels at 96 to the inch before it scales: half of one, and half of ours.
      const difference = Math.abs(height - (heightMm / 25.4) * 200);
      assert.ok(difference <= 200 / 96 + 0.5, `${height} pixels for ${heightMm} mm`);
    }
    assert.is(pixelsOf(84, 300), 992);
  });

  test("are set in the bundled font", async () => {
    const { svg } = trainingFigure(study);
    const withoutText = await renderPng(svg.replace(/<text[\s\S]*?<\/text>/g, ""), 400);
    assert.not.equal(await renderPng(svg, 400), withoutText, "text is drawn");
  });

  test("CSV equals the points", () => {
    const header = mapsCsv([], ["more"], () => [])
      .trimEnd()
      .split(",");
    assert.equal(header, ["step", "slice", "i", "j", "alpha", "beta", "more"]);
    for (const [draw, columns] of [
      [heatmapFigure(study.maps, "reward"), ["reward", "reward_error", "kl_token"]],
      [heatmapFigure(study.maps, "kl"), ["kl_token"]],
      [heatmapFigure(study.maps, "objective"), ["objective", "objective_minus_origin"]],
      [rewardKlFigure(study.maps), ["kl_token", "reward", "reward_error"]],
    ] as const) {
      const rows = readCsv(draw.csv);
      assert.is(
        rows.length,
        study.maps.reduce((sum, map) => sum + map.points.length, 0),
      );
      for (const map of study.maps) {
        const origin = map.points.find(({ alpha, beta }) => alpha === 0 && beta === 0)?.objective ?? Number.NaN;
        for (const point of map.points) {
          const row = rows.find(
            (r) => r.step === String(map.step) && r.i === String(point.i) && r.j === String(point.j),
          );
          const values: Record<string, number | null | undefined> = {
            reward: point.reward,
            reward_error: point.rewardError,
            kl_token: point.klToken,
            objective: point.objective,
            objective_minus_origin: (point.objective ?? Number.NaN) - origin,
          };
          assert.is(Number(row?.alpha), point.alpha);
          assert.is(Number(row?.beta), point.beta);
          for (const column of columns) assert.is(Number(row?.[column]), values[column], column);
        }
      }
    }
    const training = readCsv(trainingFigure(study).csv);
    assert.equal(
      training.map((row) => [Number(row.step), Number(row.reward)]),
      study.training.map((row) => [row.step, row.reward]),
    );
    assert.equal(
      training.map((row) => row.eval_reward),
      study.training.map((row) => (row.evalReward === null ? "" : String(row.evalReward))),
    );
  });

  test("no two figures have the same numbers, and the colour scale's ends are among them", () => {
    const tables = [...studyFigures(study).values()].map((draw) => draw().csv);
    assert.is(new Set(tables).size, tables.length);
    const ends = (csv: string) => new Set(readCsv(csv).map((row) => `${row.colour_low} to ${row.colour_high}`)).size;
    assert.is(ends(heatmapFigure(study.maps, "reward").csv), 1);
    assert.is(ends(heatmapFigure(study.maps, "reward", { hasOwnColours: true }).csv), study.maps.length);
    assert.not.ok(studyFigures(syntheticStudy([5], [0])).has("reward-map-own-colours"), "one map: the same drawing");
  });

  test("every slice is drawn at its own step", () => {
    const maps = [0, 10].flatMap((step) => [0, 1, 2].map((slice) => syntheticMap(step, slice)));
    const { svg } = correlationFigure({ maps }, { estimands: ["r"] });
    const places = new Set([...svg.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => x));
    assert.is(places.size, 2, "two steps, two places");
  });

  test("a map alone can have the colours, levels and axes of others", () => {
    const [first] = study.maps;
    const fills = (svg: string) => svg.match(/<g shape-rendering="crispEdges">(<rect [^>]*\/>)+<\/g>/)?.[0];
    const together = heatmapFigure(study.maps, "reward", { widthMm: 84 }).svg;
    assert.not.equal(fills(heatmapFigure([first], "reward").svg), undefined);
    const colours = (svg: string) => [...(fills(svg) ?? "").matchAll(/fill="([^"]+)"/g)].map(([, fill]) => fill);
    assert.equal(colours(heatmapFigure([first], "reward", { over: study.maps }).svg), colours(together));
    assert.not.equal(colours(heatmapFigure([first], "reward").svg), colours(together));
  });

  test("an undetermined r∞ is a cross and no number; one past −1 is drawn at the edge and written as it is", () => {
    const maps = [0, 5, 10].map((step) => syntheticMap(step, 0));
    const steps = (estimates: DrawnEstimate[]) =>
      maps.map((map, k) => ({ ...map, summary: { ...map.summary, rInfinity: estimates[k] } }));
    const plain = { value: -0.5, low: -0.7, high: -0.3 };
    const count = (estimates: DrawnEstimate[], what: RegExp) =>
      correlationFigure({ maps: steps(estimates) }, { estimands: ["rInfinity"] }).svg.match(what)?.length ?? 0;
    const dots = /<circle/g;
    const bars = /<path d="M([\d.]+) [\d.]+L\1 [\d.]+"[^>]*stroke="#b3401f"/g;
    assert.is(count([plain, plain, plain], dots), 3);
    assert.is(count([plain, null, plain], dots), 2);
    assert.is(count([plain, null, plain], bars), 2);
    assert.is(count([plain, plain, plain], /undetermined/g), 0);
    assert.is(count([plain, null, plain], /undetermined/g), 1);
    assert.is(count([plain, { value: -1.31, low: -1.6, high: -1.02 }, plain], dots), 2, "a triangle in place of a dot");
    const beyond = { value: -1.31, low: -1.6, high: -1.02 };
    assert.is(count([plain, plain, plain], /Triangle: a value/g), 0);
    assert.is(count([plain, beyond, plain], /Triangle: a value/g), 1, "the caption says what it is");
    const drawn = (third: DrawnEstimate) =>
      correlationFigure({ maps: steps([beyond, null, third]) }, { estimands: ["rInfinity"] }).svg;
    const marker = /<circle[^>]*>|<path d="[^"]*" fill="#b3401f"\/>/g;
    const atEdge = drawn({ value: -1, low: -1, high: -1 });
    assert.is(drawn(beyond).replace(marker, ""), atEdge.replace(marker, ""), "line and bar end at the edge");
    assert.is.not(drawn(beyond), atEdge);
    const { csv } = correlationFigure({ maps: steps([plain, null, beyond]) });
    const rows = readCsv(csv).filter((row) => row.estimand === "r_infinity");
    assert.equal(
      rows.map(({ step, value, low, high, remark }) => [step, value, low, high, remark]),
      [
        ["0", "-0.5", "-0.7", "-0.3", ""],
        ["5", "", "", "", "undetermined"],
        ["10", "-1.31", "-1.6", "-1.02", ""],
      ],
    );
  });

  test("a value without an interval is a hollow dot, and the figure and its CSV say so", () => {
    const [map] = study.maps;
    const alone = { ...map, summary: { ...map.summary, rInfinity: { value: -0.5, low: null, high: null } } };
    const options = { estimands: ["rInfinity"] } as const;
    const { svg, csv } = correlationFigure({ maps: [alone] }, options);
    assert.match(svg, /<circle[^>]*stroke="#b3401f"/);
    assert.match(svg, /Hollow: no\b/);
    assert.equal(
      readCsv(csv).map(({ value, low, high, remark }) => [value, low, high, remark]),
      [["-0.5", "", "", "no interval"]],
    );
    assert.not.match(correlationFigure({ maps: [map] }, options).svg, /<circle[^>]*stroke=|Hollow/);
  });

  test("an interval name is printed as given, and none is called 95% by itself", () => {
    assert.not.match(correlationFigure(study).svg, "95%");
    assert.match(
      correlationFigure({ ...study, intervalName: "95% interval (simulated coverage 93%)" }).svg,
      "95% interval (simulated",
    );
  });

  test("a map that is not yet complete is drawn as far as it goes", () => {
    const [whole] = study.maps;
    const partial = { ...whole, points: whole.points.filter(({ i, j }) => (i + j) % 2 === 0) };
    const squares = heatmapFigure([partial], "reward").svg.match(
      /<g shape-rendering="crispEdges">(<rect [^>]*\/>)+<\/g>/,
    )?.[0];
    assert.is(squares?.match(/<rect/g)?.length, partial.points.length);
    assert.is(readCsv(heatmapFigure([partial], "reward").csv).length, partial.points.length);
    // A cross in every cell that is missing, and a sentence.
    const { svg } = heatmapFigure([partial], "reward");
    const strokes = svg.match(/<path d="([^"]*)"[^>]*class="unmeasured"/)?.[1].match(/M/g)?.length;
    assert.is(strokes, 2 * (49 - partial.points.length));
    assert.match(svg, "Empty cells with a cross: not measured.");
    assert.not.match(heatmapFigure([whole], "reward").svg, /Empty cells|unmeasured/);
  });

  test("cells at the floor are hatched, in contrast to their colour, and the legend says so", () => {
    const [whole] = study.maps;
    const share = (floorShare: number | null) => ({
      ...whole,
      points: whole.points.map((p) => ({ ...p, floorShare })),
    });
    const strokes = (svg: string) =>
      [
        ...(svg.match(/<g [^>]*class="floor">(.*?)<\/g>/)?.[1] ?? "").matchAll(/<path d="([^"]*)" stroke="([^"]*)"/g),
      ].map(([, d, stroke]) => ({ stroke, cells: (d.match(/M/g)?.length ?? 0) / 3 }));
    const all = heatmapFigure([share(0.51)], "reward").svg;
    assert.is(
      strokes(all).reduce((sum, { cells }) => sum + cells, 0),
      49,
    );
    assert.equal(new Set(strokes(all).map(({ stroke }) => stroke)), new Set(["#ffffff", "#10131c"]));
    assert.match(all, /Hatched: more than half of the\s?.*rollouts have reward 0/);
    for (const rest of [0.5, 0, null])
      assert.not.match(heatmapFigure([share(rest)], "reward").svg, /Hatched|class="floor"/, `share ${rest}`);
    assert.not.match(heatmapFigure([share(1)], "kl").svg, /Hatched|class="floor"/, "the floor is about reward");
    const some = whole.points.filter(({ floorShare }) => (floorShare ?? 0) > 0.5).length;
    assert.ok(some > 0 && some < 49);
    assert.is(
      strokes(heatmapFigure([whole], "reward").svg).reduce((sum, { cells }) => sum + cells, 0),
      some,
    );
  });

  test("marks of maps are said in every figure, escaped", async () => {
    const marked = study.maps.map((map) => ({ ...map, mark: `cells from <two> "adapters" & \u0007more` }));
    for (const [name, draw] of studyFigures({ ...study, maps: marked })) {
      const { svg } = draw();
      if (name.startsWith("training") || name === "trajectory") continue; // made from no map
      assert.match(svg, "&lt;two&gt; &quot;adapters&quot; &amp; \ufffdmore", name);
      assert.not.match(svg, "<two>");
      await renderPng(svg, 60);
    }
    assert.is(escapeText(`a<b>&"c'\u0000\ud800`), "a&lt;b&gt;&amp;&quot;c&#39;\ufffd\ufffd");
  });

  test("refuse what cannot be drawn, saying why", async () => {
    const [map] = study.maps;
    const withPoint = (change: object) => ({
      ...map,
      points: [{ ...map.points[0], ...change }, ...map.points.slice(1)],
    });
    await throwsMessage(() => heatmapFigure([], "reward"), "reward-map", "at least one map");
    await throwsMessage(() => heatmapFigure([withPoint({ i: 7 })], "reward"), "step 0", "(7, 0)", "0 to 6");
    await throwsMessage(() => heatmapFigure([withPoint({ j: 1 })], "reward"), "(0, 1)", "twice");
    await throwsMessage(() => heatmapFigure([withPoint({ reward: Number.NaN })], "reward"), "finite reward", "NaN");
    const silent = { ...map, points: map.points.map((point) => ({ ...point, objective: null })) };
    await throwsMessage(() => heatmapFigure([silent], "objective"), "J at the origin", "step 0");
    assert.not.ok(studyFigures({ ...study, maps: [silent] }).has("objective-map"));
    await throwsMessage(() => trainingFigure({ training: [], maps: [] }), "at least one row");
    await throwsMessage(() => heatmapFigure([map], "reward", { widthMm: 39 }), "at least 59 mm", "39 mm");
    await throwsMessage(() => heatmapFigure([map], "reward", { widthMm: 1001 }), "at most 1000 mm", "1001 mm");
    await throwsMessage(() => heatmapFigure([map], "reward", { fontPt: 2 }), "at least 3 pt", "2 pt");
    heatmapFigure([map], "reward", { widthMm: 40, fontPt: 5 });
    await throwsMessage(() => renderPng("<svg/>", 0), "1 to 20000 pixels");
  });
});
