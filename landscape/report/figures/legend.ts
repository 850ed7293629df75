// Curves of several checkpoints: their lines, the shapes of their points, and the legend that names them.
import type { Frame, Sheet } from "./axes.ts";
import type { CurveStyle } from "./colour.ts";
import { decimal, element, join, type Markup, pathData, textElement, textWidth } from "./svg.ts";

/** A line through the points in its style. */
export function curve(sheet: Sheet, style: CurveStyle, points: readonly (readonly [number, number])[]): Markup {
  const { em, line } = sheet;
  const dash = style.dash.map((length) => decimal(length * em)).join(" ");
  return element("path", {
    d: pathData(points),
    fill: "none",
    stroke: style.colour,
    "stroke-width": line * 1.8,
    "stroke-linejoin": "round",
    "stroke-dasharray": dash === "" ? null : dash,
  });
}

/** The shape that marks a point of a curve; a thin light edge keeps it apart from lines. */
export function curveMarker(sheet: Sheet, { marker, colour }: CurveStyle, x: number, y: number): Markup {
  const r = 0.27 * sheet.em;
  const paint = { fill: colour, stroke: "#ffffff", "stroke-width": 0.4 * sheet.line };
  if (marker === "circle") return element("circle", { cx: x, cy: y, r, ...paint });
  const corners: [number, number][] = {
    square: [[-0.88, -0.88] as const, [0.88, -0.88] as const, [0.88, 0.88] as const, [-0.88, 0.88] as const],
    triangle: [[-1.15, 0.85] as const, [0, -1.25] as const, [1.15, 0.85] as const],
    diamond: [[0, -1.35] as const, [1.2, 0] as const, [0, 1.35] as const, [-1.2, 0] as const],
  }[marker].map(([dx, dy]) => [x + dx * r, y + dy * r]);
  return element("path", { d: `${pathData(corners)}Z`, ...paint });
}

/**
 * Names of curves in as many columns as fit into the width of the frame.
 * @param frame  its left, top and width count
 */
export function legend(
  sheet: Sheet,
  frame: Pick<Frame, "left" | "top" | "width">,
  entries: readonly { readonly name: string; readonly style: CurveStyle }[],
): { markup: Markup; heightPt: number } {
  const { em } = sheet;
  const sample = 2.6 * em;
  const pitch = 1.45 * em;
  // Equal columns, so that names stand under each other.
  const column = sample + 1.4 * em + Math.max(0, ...entries.map(({ name }) => textWidth(name, em)));
  const columns = Math.max(1, Math.floor((frame.width + em) / column));
  const parts = entries.map(({ name, style }, k) => {
    const at = frame.left + (k % columns) * column;
    const y = frame.top + (Math.floor(k / columns) + 0.5) * pitch;
    return join([
      curve(sheet, style, [
        [at, y],
        [at + sample, y],
      ]),
      curveMarker(sheet, style, at + sample / 2, y),
      textElement(name, at + sample + 0.4 * em, y + 0.33 * em),
    ]);
  });
  return { markup: join(parts), heightPt: Math.ceil(entries.length / columns) * pitch };
}
