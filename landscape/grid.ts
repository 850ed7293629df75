// The square grid of a slice: the coordinates of its points and the order in which they are measured.
//
// Coordinates come from integers, so the centre of an odd grid is exactly 0 and the axis is exactly symmetric. In cell
// (i, j), i gives alpha and j gives beta; both indices start from 0 at −radius.
import { SettingsError } from "../engine/host/index.ts";

export interface Grid {
  /** Points per side. */
  points: number;
  /** Largest |alpha| and |beta|, in units of the directions. */
  radius: number;
}

export interface GridCell {
  i: number;
  j: number;
  alpha: number;
  beta: number;
  /** Squared distance to the centre in grid steps: the radius class. Whole on an odd grid, k + ½ on an even one. */
  squaredSteps: number;
}

/** A point that is measured: its indices in the files of its folder, and its coordinates. */
export type PointPlace = Pick<GridCell, "i" | "j" | "alpha" | "beta">;

/**
 * Point k = (2k − (n − 1)) · radius / (n − 1), left to right; a grid of one point is its centre.
 * @throws SettingsError when points is not a whole number ≥ 1, or radius not a positive number
 */
export function axis({ points, radius }: Grid): number[] {
  if (!Number.isInteger(points) || points < 1)
    throw new SettingsError(
      `landscape.points: expected a whole number of at least 1, got ${points}. The study has 21.`,
    );
  if (!(radius > 0 && Number.isFinite(radius)))
    throw new SettingsError(`landscape.radius: expected a positive number, got ${radius}. The study has 0.05.`);
  if (points === 1) return [0];
  return Array.from({ length: points }, (_, k) => ((2 * k - (points - 1)) * radius) / (points - 1));
}

/**
 * Where the points of an axis lie on another one: a finer axis within the same radius, or a larger one with the same spacing.
 * @returns an index for each point of `before`; null when a coordinate is absent there, be it by its last bit
 */
export function nestedIndices(before: Grid, after: Grid): number[] | null {
  const coordinates = axis(after);
  const places = axis(before).map((value) => coordinates.indexOf(value));
  return places.includes(-1) ? null : places;
}

function cellOf(values: readonly number[], i: number, j: number): GridCell {
  const last = values.length - 1;
  return { i, j, alpha: values[i], beta: values[j], squaredSteps: ((2 * i - last) ** 2 + (2 * j - last) ** 2) / 4 };
}

/** All cells, ordered by (i, j): row i, column j of a map is entry i · points + j. */
export function gridCells(grid: Grid): GridCell[] {
  const values = axis(grid);
  return values.flatMap((_, i) => values.map((_, j) => cellOf(values, i, j)));
}

/**
 * The refinement level of each point of an axis: 0 for the middle (both middle points of an even axis), 1 for the two
 * ends, then the halves, quarters … between points of lower levels.
 */
export function axisLevels(points: number): number[] {
  const levels = new Array<number>(points).fill(0);
  const middle = Math.ceil((points - 1) / 2);
  const setLevel = (k: number, level: number) => {
    levels[k] = level;
    levels[points - 1 - k] = level;
  };
  const halve = (low: number, high: number, level: number) => {
    if (high - low < 2) return;
    const between = (low + high) >> 1;
    setLevel(between, level);
    halve(low, between, level + 1);
    halve(between, high, level + 1);
  };
  if (points - 1 > middle) setLevel(points - 1, 1);
  halve(middle, points - 1, 2);
  return levels;
}

/**
 * The order of measurement: the centre first, then coarse to fine, inner before outer. So the cells measured at any
 * time already form a map. Depends on the grid alone.
 */
export function workOrder(grid: Grid): GridCell[] {
  const levels = axisLevels(grid.points);
  const level = (cell: GridCell) => Math.max(levels[cell.i], levels[cell.j]);
  return gridCells(grid).sort(
    (a, b) => level(a) - level(b) || a.squaredSteps - b.squaredSteps || a.i - b.i || a.j - b.j,
  );
}

/** The ring of a cell for profiles: its distance to the centre, rounded to whole grid steps. */
export const ringIndex = (cell: GridCell): number => Math.round(Math.sqrt(cell.squaredSteps));

/** Cells at the middle of the four edges (none on an even grid) and at the four corners. */
export function landmarks(grid: Grid, cells: readonly GridCell[]): { midEdges: GridCell[]; corners: GridCell[] } {
  const last = grid.points - 1;
  const isEnd = (k: number) => k === 0 || k === last;
  const isMiddle = (k: number) => 2 * k === last;
  return {
    midEdges: cells.filter(({ i, j }) => (isEnd(i) && isMiddle(j)) || (isMiddle(i) && isEnd(j))),
    corners: cells.filter(({ i, j }) => isEnd(i) && isEnd(j)),
  };
}
