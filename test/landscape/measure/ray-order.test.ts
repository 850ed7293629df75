// In which order points on rays begin, and from which points they take their drafts.
import * as assert from "uvu/assert";
import { rayPoints } from "../../../landscape/files/ray-points.ts";
import { DraftSource, mostDraftBytes } from "../../../landscape/measure/drafts.ts";
import { pointsAlong } from "../../../landscape/measure/rays.ts";
import { describe } from "../../support.ts";
import { settingsWith } from "./fixture-parts.ts";

const { landscape } = settingsWith({ "landscape.rays.count": 10, "landscape.rays.radii": [0.02, 0.05, 0.1] });
const points = rayPoints(landscape);
const { distance, inBeginOrder } = pointsAlong(points, () => () => []);
const at = (i: number, j: number) => {
  const found = points.find((point) => point.i === i && point.j === j);
  if (found === undefined) throw new Error(`no point (${i}, ${j})`);
  return found;
};

describe("landscape/measure/ray-order", (test) => {
  test("eight rays begin together, radius by radius: a point's inner neighbour is as many points back as there are halves of rays", () => {
    const order = inBeginOrder?.(points) ?? [];
    assert.equal(new Set(order), new Set(points));
    assert.equal(
      order.slice(0, 17).map(({ i, j }) => [i, j]),
      [[-1, 0], ...[0, 1].flatMap((half) => [0, 1, 2, 3, 4, 5, 6, 7].map((ray) => [ray, half]))],
    );
    for (const [k, point] of order.entries()) {
      if (point.j < 2) continue;
      const inner = order.indexOf(at(point.i, point.j - 2));
      assert.is(k - inner, point.i < 8 ? 16 : 4, `ray ${point.i}, ${point.j}`);
    }
    const [last, first] = [order.findLastIndex(({ i }) => i < 8), order.findIndex(({ i }) => i >= 8)];
    assert.ok(last < first, "rays 8 and 9 follow, so few finished points wait for the one ahead of them");
    assert.equal(points, rayPoints(landscape), "the order of the files stays");
  });

  test("near is along the half of a ray, then at equal radii of other rays; the opposite half is far", () => {
    const close = (found: number | undefined, expected: number) =>
      assert.ok(Math.abs((found ?? Number.NaN) - expected) < 1e-12, `${found}, expected ${expected}`);
    close(distance?.(at(0, 4), at(0, 2)), 0.05 ** 2);
    close(distance?.(at(0, 4), at(0, 5)), 0.2 ** 2);
    close(distance?.(at(0, 4), at(1, 4)), 0.4 * 0.1 ** 2);
    close(distance?.(at(0, 4), at(1, 5)), 0.4 * 0.1 ** 2);
    close(distance?.(at(0, 4), at(-1, 0)), 0.1 ** 2);
    const source = new DraftSource(() => null, 1, mostDraftBytes, distance);
    for (const { i, j } of points.filter((point) => point.i !== 0 || point.j < 4))
      source.add({ i, j, prompt: 0, rollout: 0 }, [[1]]);
    source.finish([]);
    const found = source.nearest(at(0, 4)).map(({ i, j }) => `${i},${j}`);
    // In the table of (i, j) the neighbours would be the opposite half and the next ray, at the same radius.
    assert.equal(found.slice(0, 2), ["0,2", "1,4"]);
    const place = (name: string): number => found.indexOf(name);
    assert.ok(place("1,4") < place("-1,0") && place("-1,0") < place("0,3"), found.join(" "));
  });
});
