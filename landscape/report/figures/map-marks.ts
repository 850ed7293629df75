// What stands on the squares of a map: crosses in empty cells, hatching of cells at the floor, isolines with their
// numbers, and the checkpoint.
import type { Frame, Sheet } from "./axes.ts";
import { type ColourScale, colourOf, luminance } from "./colour.ts";
import type { LandscapeMap, MapPoint } from "./figure-data.ts";
import type { Isoline } from "./isolines.ts";
import { type Attributes, decimal, element, join, type Markup, pathData, textElement } from "./svg.ts";

/** A point at the floor tells little about reward: the same rule flags a whole map (floor in summary.json). */
export const isFloor = ({ floorShare }: MapPoint): boolean => (floorShare ?? 0) > 0.5;
export const FLOOR_NOTE = "Hatched: more than half of the rollouts have reward 0 (the floor).";

/** Left and upper edge of the square of cell (i, j). */
function cornerOf(frame: Frame, n: number, i: number, j: number): [x: number, y: number] {
  const cell = frame.width / n;
  return [frame.left + i * cell, frame.top + (n - 1 - j) * cell];
}

/** A cross in every cell that was not measured; the cell itself stays empty. */
export function crosses(sheet: Sheet, frame: Frame, map: LandscapeMap): Markup | null {
  const measured = new Set(map.points.map(({ i, j }) => j * map.n + i));
  const cell = frame.width / map.n;
  const [from, to] = [0.3 * cell, 0.7 * cell];
  const strokes = Array.from({ length: map.n * map.n }, (_, k) => k)
    .filter((k) => !measured.has(k))
    .flatMap((k) => {
      const [x, y] = cornerOf(frame, map.n, k % map.n, Math.floor(k / map.n));
      return [
        pathData([
          [x + from, y + from],
          [x + to, y + to],
        ]),
        pathData([
          [x + from, y + to],
          [x + to, y + from],
        ]),
      ];
    });
  if (strokes.length === 0) return null;
  return element("path", {
    d: strokes.join(""),
    stroke: sheet.theme.muted,
    "stroke-width": sheet.line,
    class: "unmeasured",
  });
}

/** Thin strokes from the lower left to the upper right of every cell at the floor: white on dark cells, dark on light ones. */
export function floorHatching(sheet: Sheet, frame: Frame, map: LandscapeMap, colours: ColourScale): Markup | null {
  const cell = frame.width / map.n;
  const isLight = ({ reward }: MapPoint): boolean => luminance(colourOf(colours, reward)) > 0.2;
  const strokes = (points: readonly MapPoint[]): string =>
    points
      .flatMap(({ i, j }) => {
        const [x, y] = cornerOf(frame, map.n, i, j);
        return [0.5, 1, 1.5].map((at) => {
          const [from, to] = [Math.max(0, at - 1) * cell, Math.min(1, at) * cell];
          return pathData([
            [x + from, y + to],
            [x + to, y + from],
          ]);
        });
      })
      .join("");
  const floor = map.points.filter(isFloor).sort((a, b) => a.i - b.i || a.j - b.j);
  if (floor.length === 0) return null;
  const drawn = [
    { d: strokes(floor.filter((point) => !isLight(point))), stroke: "#ffffff" },
    { d: strokes(floor.filter(isLight)), stroke: "#10131c" },
  ];
  return element(
    "g",
    {
      fill: "none",
      "stroke-width": 0.6 * sheet.line,
      "stroke-opacity": "0.6",
      "pointer-events": "none",
      class: "floor",
    },
    ...drawn.map(({ d, stroke }) => (d === "" ? null : element("path", { d, stroke }))),
  );
}

/** White lines with a dark edge over viridis, dark lines over the pale middle of a diverging map, dashed below zero. */
export function isolineMarkup(drawn: readonly Isoline[], fontPt: number, kind: ColourScale["kind"]): Markup {
  const isDark = kind === "diverging";
  const width = fontPt * 0.11;
  const strokes = (attributes: Attributes) =>
    drawn.map(({ level, lines }) =>
      element("path", {
        d: lines.map(pathData).join(""),
        "stroke-dasharray": level < 0 ? `${decimal(fontPt * 0.4)} ${decimal(fontPt * 0.3)}` : null,
        ...attributes,
      }),
    );
  return element(
    "g",
    { fill: "none", "stroke-linejoin": "round", class: "isolines" },
    ...(isDark ? [] : strokes({ stroke: "#10131c", "stroke-opacity": "0.45", "stroke-width": width * 2.4 })),
    ...strokes({ stroke: isDark ? "#1d1f24" : "#ffffff", "stroke-width": width }),
    ...drawn.map(({ label: { text: written, x, y, angle } }) =>
      textElement(written, x, y + 0.33 * fontPt, {
        transform: `rotate(${decimal(angle)} ${decimal(x)} ${decimal(y)})`,
        "text-anchor": "middle",
        "font-size": fontPt,
        fill: isDark ? "#1d1f24" : "#ffffff",
        stroke: isDark ? "#ffffff" : "#10131c",
        "stroke-opacity": isDark ? "0.7" : "0.5",
        "stroke-width": fontPt * 0.32,
        "stroke-linejoin": "round",
        "paint-order": "stroke",
      }),
    ),
  );
}

/** The checkpoint: a white ring inside a dark one, visible on any colour. */
export function checkpointMark(x: number, y: number, radius: number): Markup {
  return join([
    element("circle", { cx: x, cy: y, r: radius, fill: "none", stroke: "#10131c", "stroke-width": radius * 0.85 }),
    element("circle", { cx: x, cy: y, r: radius, fill: "none", stroke: "#ffffff", "stroke-width": radius * 0.4 }),
  ]);
}
