// Isolines of a map: their lines, the levels that are drawn, and the positions of their numbers.
//
// Marching squares (d3-contour) interpolates linearly between neighbours. KL grows with the square of the distance, so
// its lines are computed on √KL, which is nearly linear between neighbours: on 7 × 7 points a line of KL itself would
// be off by a quarter of a cell near the origin. d3 closes lines around the rim of the grid and around missing cells;
// such pieces are not isolines and are removed: the remaining pieces lie in squares whose four corners were measured.
import { contours } from "d3-contour";
import { scaleLinear } from "d3-scale";
import { textWidth } from "./svg.ts";

export type Position = readonly [number, number];
export type Polyline = readonly Position[];

/** One level of a map, in the units of a drawing. */
export interface Isoline {
  level: number;
  /** Lines with a gap left for the number; those of a closed line end where they began. */
  lines: readonly Polyline[];
  /** Centre of the number, and its angle in degrees as SVG turns. */
  label: { text: string; x: number; y: number; angle: number };
}

/**
 * The lines on which a map has the value `level`, in grid units: a sample (i, j) lies at x = i, y = j.
 * @param values     [n·n], entry j·n + i; NaN where there is no value
 * @param transform  increasing function that makes the values more nearly linear between neighbours
 */
export function isolines(
  values: ArrayLike<number>,
  n: number,
  level: number,
  transform: (value: number) => number = (value) => value,
): Polyline[] {
  const straightened = Array.from(values, transform);
  const isMeasured = (x: number, y: number) =>
    x >= 0 && y >= 0 && x < n && y < n && Number.isFinite(straightened[y * n + x]);
  const isInside = ([ax, ay]: Position, [bx, by]: Position) => {
    const x = (ax + bx) / 2;
    const y = (ay + by) / 2;
    if (x < 0 || y < 0 || x > n - 1 || y > n - 1) return false;
    const column = Math.min(Math.floor(x), n - 2);
    const row = Math.min(Math.floor(y), n - 2);
    return [0, 1].every((dy) => [0, 1].every((dx) => isMeasured(column + dx, row + dy)));
  };
  const threshold = transform(level);
  // Lower than all values, so that lines around a missing sample lie inside its squares and can be recognised.
  const missing = Math.min(threshold, ...straightened.filter(Number.isFinite)) - 1;
  const filled = straightened.map((value) => (Number.isFinite(value) ? value : missing));
  const found = contours().size([n, n]).smooth(true).contour(filled, threshold);
  return found.coordinates.flatMap((polygon) => polygon.flatMap((ring) => openRing(ring.map(toGrid), isInside)));
}

/** √KL, for `transform`. */
export const rootOfKl = (kl: number): number => Math.sqrt(Math.max(0, kl));

/** d3 puts the sample (i, j) at (i + ½, j + ½). */
function toGrid(position: readonly number[]): Position {
  return [position[0] - 0.5, position[1] - 0.5];
}

/** The runs of a closed ring whose segments are kept; a ring that is kept whole stays closed. */
function openRing(ring: Polyline, isKept: (a: Position, b: Position) => boolean): Polyline[] {
  const points = ring.filter(([x, y], k) => k === 0 || x !== ring[k - 1][0] || y !== ring[k - 1][1]);
  const count = points.length - 1;
  const kept = Array.from({ length: count }, (_, k) => isKept(points[k], points[k + 1]));
  const gap = kept.indexOf(false);
  if (gap === -1) return count > 1 ? [points] : [];
  const runs: Position[][] = [];
  let run: Position[] = [];
  for (let step = 1; step <= count; step++) {
    const k = (gap + step) % count;
    if (kept[k]) run.push(...(run.length === 0 ? [points[k]] : []), points[k + 1]);
    else if (run.length > 0) {
      runs.push(run);
      run = [];
    }
  }
  return runs;
}

/** Levels for a quantity that grows from 0: 1, 2, 5 times powers of ten between the ends and within a hundredth of the upper, at most six. */
export function growingLevels(low: number, high: number): number[] {
  const most = 6;
  if (!(high > 0)) return [];
  const smallest = Math.max(low, high / 100);
  for (const mantissas of [[1, 2, 5], [1, 3], [1]]) {
    const levels: number[] = [];
    for (let power = Math.floor(Math.log10(smallest)); power <= Math.log10(high); power++)
      for (const mantissa of mantissas) levels.push(Number(`${mantissa}e${power}`));
    const between = levels.filter((level) => level > smallest && level < high);
    if (between.length <= most || mantissas.length === 1) return between.slice(-most);
  }
  return [];
}

/** Levels for a signed quantity: round numbers between the ends, zero among them when the signs differ. */
export function evenLevels(low: number, high: number): number[] {
  return scaleLinear([low, high], [0, 1])
    .ticks(6)
    .filter((level) => level > low && level < high);
}

/** A level as it is written on its line: a true minus, a power of ten if the number is long. */
export function levelText(level: number): string {
  const [mantissa, exponent] = level.toExponential(3).split("e").map(Number);
  const digits = (exponent: number) =>
    [...String(exponent)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("");
  const written =
    level !== 0 && exponent < -3 ? `${mantissa}·10${digits(exponent)}` : String(Number(level.toPrecision(4)));
  return written.replace("-", "−");
}

/**
 * Places a number on every line, clear of each other, of other lines, of the frame and of the checkpoint, and opens the
 * line under it. A level whose lines are all too short to carry their number is left out.
 * @param levels  lines in the units of the drawing
 * @param frame   the rectangle that numbers must stay inside
 * @param avoid   the checkpoint's mark
 */
export function labelIsolines(
  levels: readonly { level: number; lines: readonly Polyline[] }[],
  frame: { left: number; top: number; width: number; height: number },
  avoid: Position,
  fontPt: number,
): Isoline[] {
  const placed: Position[] = [];
  const result: Isoline[] = [];
  for (const { level, lines } of levels) {
    const label = levelText(level);
    const width = textWidth(label, fontPt);
    const others = levels.filter((other) => other.level !== level).flatMap((other) => other.lines);
    let best: { score: number; at: Position; angle: number } | null = null;
    for (const line of lines.filter((candidate) => lengthOf(candidate) > 2.5 * width))
      for (const { at, angle } of candidatesOn(line, width)) {
        const [x, y] = at;
        const inset = Math.min(
          x - frame.left,
          frame.left + frame.width - x,
          y - frame.top,
          frame.top + frame.height - y,
        );
        if (inset < width / 2 || distance(at, avoid) < fontPt) continue;
        const score =
          2 * Math.min(4, nearest(at, placed) / fontPt) +
          3 * Math.min(1, nearest(at, others.flat()) / fontPt) +
          Math.min(2, distance(at, avoid) / fontPt) -
          1.5 * Math.abs(Math.sin(angle));
        if (best === null || score > best.score) best = { score, at, angle };
      }
    if (best === null) continue;
    const { at, angle } = best;
    placed.push(at);
    result.push({
      level,
      // A crossing of a corner of the grid would be a speck.
      lines: lines
        .flatMap((line) => openAround(line, at, width / 2 + 0.15 * fontPt))
        .filter((line) => lengthOf(line) > 0.1 * fontPt),
      label: { text: label, x: at[0], y: at[1], angle: (angle * 180) / Math.PI },
    });
  }
  return result;
}

const distance = (a: Position, b: Position) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const nearest = (at: Position, points: readonly Position[]) =>
  points.reduce((least, point) => Math.min(least, distance(at, point)), Number.POSITIVE_INFINITY);
const lengthOf = (line: Polyline) =>
  line.reduce((sum, point, k) => (k === 0 ? 0 : sum + distance(line[k - 1], point)), 0);

/** Points every half width along a line, each with the direction of the chord that a number of that width would cover. */
function candidatesOn(line: Polyline, width: number): { at: Position; angle: number }[] {
  const total = lengthOf(line);
  const count = Math.max(1, Math.floor((2 * total) / width));
  const isClosed = distance(line[0], line[line.length - 1]) === 0;
  const at = (s: number) => pointAt(line, isClosed ? (s + total) % total : Math.min(total, Math.max(0, s)));
  return Array.from({ length: count }, (_, k) => {
    const s = ((k + 0.5) * total) / count;
    const [ax, ay] = at(s - width / 2);
    const [bx, by] = at(s + width / 2);
    // Upright: the text runs from left to right.
    const angle = ax <= bx ? Math.atan2(by - ay, bx - ax) : Math.atan2(ay - by, ax - bx);
    return { at: at(s), angle };
  });
}

/** The point at arc length s. */
function pointAt(line: Polyline, s: number): Position {
  let left = s;
  for (let k = 1; k < line.length; k++) {
    const step = distance(line[k - 1], line[k]);
    if (left <= step && step > 0) return between(line[k - 1], line[k], left / step);
    left -= step;
  }
  return line[line.length - 1];
}

const between = (a: Position, b: Position, t: number): Position => [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];

/** The parts of a line outside a circle. */
function openAround(line: Polyline, centre: Position, radius: number): Polyline[] {
  const parts: Position[][] = [];
  let part: Position[] = [];
  const finish = () => {
    if (part.length > 1) parts.push(part);
    part = [];
  };
  for (let k = 1; k < line.length; k++) {
    const [a, b] = [line[k - 1], line[k]];
    // |a + t·(b − a) − centre|² = radius²
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    const [fx, fy] = [a[0] - centre[0], a[1] - centre[1]];
    const [qa, qb, qc] = [dx * dx + dy * dy, fx * dx + fy * dy, fx * fx + fy * fy - radius * radius];
    const root = Math.sqrt(Math.max(0, qb * qb - qa * qc));
    const enter = qb * qb > qa * qc ? Math.min(1, Math.max(0, (-qb - root) / qa)) : 1;
    const leave = qb * qb > qa * qc ? Math.min(1, Math.max(0, (-qb + root) / qa)) : 1;
    if (part.length === 0) part.push(a);
    if (enter < leave) {
      if (enter > 0) part.push(between(a, b, enter));
      finish();
      if (leave < 1) part.push(between(a, b, leave), b);
    } else part.push(b);
  }
  finish();
  return parts;
}
