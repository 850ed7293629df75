// The correlations r(KL, R) that the original study published: one slice per checkpoint, three digits, no intervals.
// docs/study.md names the study.

/** Thousandths of r, by training step. */
const THOUSANDTHS: readonly (readonly [step: number, r: number])[] = [
  [0, 96],
  [1, -687],
  [2, -722],
  [3, -622],
  [4, -693],
  [5, -645],
  [6, -693],
  [7, -703],
  [8, -657],
  [9, -767],
  [10, -869],
  [20, -809],
  [30, -811],
  [40, -785],
  [50, -772],
  [60, -764],
  [70, -721],
  [80, -730],
  [90, -729],
  [100, -823],
  [110, -780],
  [120, -688],
  [130, -753],
  [140, -797],
  [150, -803],
];

/** r(KL, R) by training step. */
export const PUBLISHED_R: ReadonlyMap<number, number> = new Map(THOUSANDTHS.map(([step, r]) => [step, r / 1000]));
