// A surface: heights and colours are the numbers, patches meet, and a missing corner leaves a gap.
import * as assert from "uvu/assert";
import { surfaceFigure } from "../../../../landscape/report/figures/surface.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { syntheticMap } from "../../synthetic-study.ts";

type Place = readonly [number, number];

/** The patches of a figure with one panel: corners in the order (i, j), (i+1, j), (i+1, j+1), (i, j+1), and colour. */
function patchesOf(svg: string) {
  const group = svg.match(/<g stroke="#1d1f24" stroke-width="[\d.]+" stroke-opacity="0.55"[^>]*>(.*?)<\/g>/)?.[1] ?? "";
  return [...group.matchAll(/<path d="([^"]*)" fill="([^"]*)"/g)].map(([, d, fill]) => ({
    corners: [...d.matchAll(/([-\d.]+) ([-\d.]+)/g)].map(([, x, y]): Place => [Number(x), Number(y)]),
    fill,
  }));
}

/** As `syntheticMap`, with this reward. */
function mapOf(n: number, reward: (u: number, v: number) => number) {
  const map = syntheticMap(5, 0, n);
  const points = map.points.map((point) => ({
    ...point,
    reward: reward(point.alpha / map.radius, point.beta / map.radius),
  }));
  return { ...map, points };
}

const places = (svg: string) => new Set(patchesOf(svg).flatMap(({ corners }) => corners.map(String)));

describe("landscape/report/figures/surface", (test) => {
  const n = 7;

  test("(n − 1)² patches meet in n² corners; a missing point leaves out the four around it", () => {
    const whole = mapOf(n, (u, v) => u * v);
    const { svg } = surfaceFigure([whole]);
    assert.is(patchesOf(svg).length, 36);
    assert.is(places(svg).size, 49);
    assert.not.match(svg, "Gaps");
    const partial = { ...whole, points: whole.points.filter(({ i, j }) => !(i === 3 && j === 2)) };
    const drawn = surfaceFigure([partial]).svg;
    assert.is(patchesOf(drawn).length, 32);
    assert.match(drawn, "Gaps: not measured.");
  });

  test("a plane is drawn flat: equal steps along α and β are equal steps of the drawing", () => {
    const { svg } = surfaceFigure([mapOf(n, (u, v) => 0.3 * u + 0.5 * v)]);
    const steps = patchesOf(svg).flatMap(({ corners: [a, b, c, d] }) => [
      [b[0] - a[0], b[1] - a[1], d[0] - a[0], d[1] - a[1]],
      [c[0] - d[0], c[1] - d[1], c[0] - b[0], c[1] - b[1]],
    ]);
    // Each corner is rounded to 0.01.
    for (const step of steps) assertClose("step", step, steps[0], { absolute: 0.021 });
  });

  test("a point that is higher stands higher by its share of the axis, and moves nothing else", () => {
    const ends = (u: number, v: number) => (u === -1 && v === -1 ? 0 : u === 1 && v === 1 ? 1 : 0.5);
    const flat = surfaceFigure([mapOf(n, ends)]).svg;
    const raised = surfaceFigure([mapOf(n, (u, v) => (u === 0 && v === 0 ? 0.75 : ends(u, v)))]).svg;
    const [before, after] = [places(flat), places(raised)];
    const [gone] = [...before].filter((place) => !after.has(place)).map((place) => place.split(",").map(Number));
    const [come] = [...after].filter((place) => !before.has(place)).map((place) => place.split(",").map(Number));
    assert.is([...before].filter((place) => !after.has(place)).length, 1);
    assert.is(come[0], gone[0]);
    // The axis of the height is the first stroke of the box: from height 1 down to 0.
    const axis =
      flat.match(/<path d="M([\d.]+) ([\d.]+)L\1 ([\d.]+)L[^"]*" fill="none" stroke="#1d1f24"/)?.map(Number) ?? [];
    assertClose("rise", [gone[1] - come[1]], [0.25 * (axis[3] - axis[2])], { absolute: 0.03 });
  });

  test("what is in front is drawn later: β falls and α rises from patch to patch", () => {
    const { svg } = surfaceFigure([mapOf(n, () => 0.5)]);
    const lowest = patchesOf(svg).map(({ corners }) => Math.max(...corners.map(([, y]) => y)));
    for (let k = 1; k < lowest.length; k++) assert.ok(lowest[k] >= lowest[k - 1] - 0.02, `patch ${k}`);
  });

  test("the CSV has height, colour and the ends of both axes; other quantities take their places", () => {
    const map = syntheticMap(5, 0, n);
    const rows = (csv: string) =>
      csv
        .trimEnd()
        .split("\n")
        .map((line) => line.split(","));
    const [header, first] = rows(surfaceFigure([map]).csv);
    assert.equal(header.slice(6), ["reward", "kl_token", "height_low", "height_high", "colour_low", "colour_high"]);
    const point = map.points.find(({ i, j }) => i === 0 && j === 0);
    const kls = map.points.map(({ klToken }) => klToken);
    const rewards = map.points.map(({ reward }) => reward);
    assert.equal(first.slice(6).map(Number), [
      ...[point?.reward, point?.klToken, Math.min(...rewards), Math.max(...rewards)],
      ...[Math.min(...kls), Math.max(...kls)],
    ]);
    assert.equal(rows(surfaceFigure([map], { quantity: "kl" }).csv)[0].slice(6, 8), ["kl_token", "reward"]);
    const objective = rows(surfaceFigure([map], { quantity: "objective" }).csv);
    assert.equal(objective[0].slice(6, 8), ["objective_minus_origin", "kl_token"]);
    const centre = objective.find((row) => row[2] === "3" && row[3] === "3");
    assert.is(Number(centre?.[6]), 0);
  });

  test("heights and colours of all checkpoints on request", () => {
    const [low, high] = [mapOf(n, () => 0.1), mapOf(n, () => 0.9)].map((map, k) => ({ ...map, step: k }));
    const height = (csv: string) => csv.split("\n")[1].split(",").slice(8, 10).map(Number);
    assert.equal(height(surfaceFigure([low], { over: [low, high] }).csv), [0.1, 0.9]);
    assert.equal(height(surfaceFigure([low]).csv), [-0.4, 0.6], "one height: half a unit to each side");
  });

  test("no map, or no J at the checkpoint", async () => {
    await throwsMessage(() => surfaceFigure([]), "surface", "at least one measured point");
    const silent = { ...syntheticMap(0, 0), points: syntheticMap(0, 0).points.map((p) => ({ ...p, objective: null })) };
    await throwsMessage(() => surfaceFigure([silent], { quantity: "objective" }), "at least one measured point");
  });
});
