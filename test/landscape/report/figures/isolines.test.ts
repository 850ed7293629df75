// The isolines of a drawn figure lie where KL has the value that stands on them: a known elliptic bowl.
import * as assert from "uvu/assert";
import { heatmapFigure } from "../../../../landscape/report/figures/heatmap.ts";
import { describe } from "../../../support.ts";
import { syntheticMap } from "../../synthetic-study.ts";

const [A, B] = [0.9, 0.4];
/** KL = a·x² + b·y² in units of the radius. */
const kl = (x: number, y: number) => A * x * x + B * y * y;

/** The isolines of a figure with one panel, and their labels, in units of the radius. */
function drawnBowl(n: number) {
  const map = syntheticMap(0, 0, n);
  const points = map.points.map((point) => ({
    ...point,
    klToken: kl(point.alpha / map.radius, point.beta / map.radius),
  }));
  const { svg } = heatmapFigure([{ ...map, points }], "reward");
  const [, left, top, width] = (svg.match(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"[^>]*stroke=/) ?? []).map(
    Number,
  );
  const cell = width / n;
  const half = (cell * (n - 1)) / 2;
  const place = (x: number, y: number) => [(x - left - width / 2) / half, -(y - top - width / 2) / half] as const;
  const group = svg.match(/class="isolines">(.*?)<\/g>/)?.[1] ?? "";
  const numbers = (d: string) => [...d.matchAll(/([-\d.]+) ([-\d.]+)/g)].map(([, x, y]) => place(Number(x), Number(y)));
  const lines = [...group.matchAll(/<path d="([^"]*)" stroke="#ffffff"/g)].map(([, d]) => numbers(d));
  const labels = [...group.matchAll(/<text [^>]*transform="rotate\([-\d.]+ ([\d.]+) ([\d.]+)\)"[^>]*>([^<]*)</g)].map(
    ([, x, y, text]) => ({ at: place(Number(x), Number(y)), level: Number(text) }),
  );
  return { lines, labels, rounding: 0.01 / half };
}

describe("landscape/report/figures/isolines", (test) => {
  for (const n of [11, 21])
    test(`every vertex lies on its ellipse, and every number stands on its line: ${n} × ${n}`, () => {
      const { lines, labels, rounding } = drawnBowl(n);
      assert.ok(lines.length >= 3, `${lines.length} levels`);
      assert.is(labels.length, lines.length, "one number to a level");
      const h = 2 / (n - 1);
      const steepest = Math.sqrt(Math.max(A, B));
      lines.forEach((line, k) => {
        const { at, level } = labels[k];
        const root = Math.sqrt(level);
        // ρ = √KL is interpolated linearly on the edges of squares: |error| ≤ h²/8 · max ρ'', and ρ'' ≤ max(a, b)/ρ on an
        // edge of length h that the line crosses, where ρ ≥ √level − h·√max(a, b). Coordinates are rounded to 0.01 pt.
        const bound = (h * h * Math.max(A, B)) / (8 * Math.max(h, root - h * steepest)) + 2 * steepest * rounding;
        assert.ok(line.length >= 8, `${line.length} vertices at ${level}`);
        // The ends of the gap for the number lie inside a square: its diagonal is √2·h, which adds 2·h²/8.
        for (const [x, y] of line) {
          const error = Math.abs(Math.sqrt(kl(x, y)) - root);
          assert.ok(error <= 3 * bound, `(${x}, ${y}) is off ${level} by ${error}, expected at most ${3 * bound}`);
        }
        const near = line.filter(([x, y]) => Math.abs(Math.sqrt(kl(x, y)) - root) <= bound).length;
        assert.ok(near >= line.length - 4, `${near} of ${line.length} vertices are within ${bound} of ${level}`);
        const off = Math.abs(Math.sqrt(kl(...at)) - root);
        assert.ok(off <= 3 * bound, `the number ${level} is off its line by ${off}`);
      });
      // The levels differ by more than any error allowed above, so no number could belong to another line.
      const roots = labels.map(({ level }) => Math.sqrt(level));
      roots.slice(1).forEach((root, k) => {
        assert.ok(root - roots[k] > 0.08);
      });
    });
});
