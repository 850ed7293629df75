// Where the text of a figure stands: boxes around every text, whether they leave the page, and which of them overlap.
import { type PlacedText, parseSvg, placedTexts } from "../../../../landscape/report/figures/svg-tree.ts";

type Corner = readonly [x: number, y: number];

export interface TextBox {
  readonly text: string;
  readonly corners: readonly Corner[];
}

/** Source Sans 3: digits and capitals rise 0.66 em, most descenders reach 0.2 em. */
const [RISE, FALL] = [0.66, 0.2];

/** Halos and neighbours may touch a box, not enter it by more than this. */
const TOUCH = 0.3;

export function textBoxes(svg: string): TextBox[] {
  return placedTexts(svg).map((placed) => ({
    text: placed.runs.map(({ text }) => text).join(""),
    corners: boxOf(placed),
  }));
}

function boxOf({ runs, width, turn }: PlacedText): Corner[] {
  const left = runs[0].x;
  const top = Math.min(...runs.map(({ y, fontPt }) => y - RISE * fontPt));
  const bottom = Math.max(...runs.map(({ y, fontPt }) => y + FALL * fontPt));
  const corners: Corner[] = [
    [left, top],
    [left + width, top],
    [left + width, bottom],
    [left, bottom],
  ];
  if (turn === null) return corners;
  const angle = (turn.degrees * Math.PI) / 180;
  return corners.map(([x, y]) => {
    const [dx, dy] = [x - turn.x, y - turn.y];
    return [turn.x + Math.cos(angle) * dx - Math.sin(angle) * dy, turn.y + Math.sin(angle) * dx + Math.cos(angle) * dy];
  });
}

/** Texts that leave the page, and pairs that overlap, in words. */
export function textFaults(svg: string): string[] {
  const [, , width, height] = parseSvg(svg).attributes.viewBox.split(" ").map(Number);
  const boxes = textBoxes(svg);
  const faults = boxes.flatMap(({ text, corners }) =>
    corners.every(([x, y]) => x >= -0.01 && y >= -0.01 && x <= width + 0.01 && y <= height + 0.01)
      ? []
      : [`"${text}" leaves the page`],
  );
  boxes.forEach((box, k) => {
    for (const other of boxes.slice(k + 1))
      if (overlap(box.corners, other.corners) > TOUCH) faults.push(`"${box.text}" and "${other.text}" overlap`);
  });
  return faults;
}

/** How far two rectangles of any angle reach into each other; 0 or less: they are apart (separating axes). */
export function overlap(a: readonly Corner[], b: readonly Corner[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (const box of [a, b])
    for (let k = 0; k < 2; k++) {
      const [ax, ay] = [box[k + 1][0] - box[k][0], box[k + 1][1] - box[k][1]];
      const length = Math.hypot(ax, ay) || 1;
      const along = (corners: readonly Corner[]) => corners.map(([x, y]) => (x * ax + y * ay) / length);
      const [ofA, ofB] = [along(a), along(b)];
      least = Math.min(least, Math.max(...ofA) - Math.min(...ofB), Math.max(...ofB) - Math.min(...ofA));
    }
  return least;
}
