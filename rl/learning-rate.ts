// The learning rate of each update of a training run, by the schedules of transformers: the same names, and the same
// rates. Updates count from 0 here, as transformers' steps do, so a warm-up begins with a rate of 0. (The schedule of
// the warm start, schedule.ts, counts from 1.)

/** Schedules under transformers' names. `cosine` with a floor is its cosine_with_min_lr. */
export const scheduleKinds = [
  "constant",
  "constant_with_warmup",
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
  "inverse_sqrt",
] as const;
export type ScheduleKind = (typeof scheduleKinds)[number];

export interface RateSchedule {
  readonly schedule: ScheduleKind;
  /** The highest rate. */
  readonly learningRate: number;
  /** Updates with a linear rise from 0. Below 1 it is a share of all updates, rounded up. */
  readonly warmupSteps: number;
  /** The lowest rate of `cosine` and `polynomial`, as a share of the highest. */
  readonly floorShare: number;
  /** Number of falls of `cosine_with_restarts`. */
  readonly scheduleCycles: number;
  /** Exponent of `polynomial`. */
  readonly schedulePower: number;
}

/** The number of updates of the warm-up. @param updates  number of all updates of the run */
export function warmupUpdates(warmupSteps: number, updates: number): number {
  return warmupSteps >= 1 ? Math.floor(warmupSteps) : Math.ceil(updates * warmupSteps);
}

/** Whether a rate depends on the number of all updates. If so, a longer run has other rates from its start. */
export function dependsOnLength({ schedule, warmupSteps }: Pick<RateSchedule, "schedule" | "warmupSteps">): boolean {
  switch (schedule) {
    case "constant":
      return false;
    case "constant_with_warmup":
    case "inverse_sqrt":
      return warmupSteps > 0 && warmupSteps < 1;
    default:
      return true;
  }
}

/**
 * The rate of update u = 0, 1, …, as a factor of the highest rate. With w updates of warm-up, n updates in all and
 * x = (u − w) / max(1, n − w):
 * - before w (except for `constant`)   u / w
 * - `constant`, `constant_with_warmup` 1
 * - `linear`                           max(0, 1 − x)
 * - `cosine`                           f + (1 − f) · (1 + cos πx) / 2, f the floor
 * - `cosine_with_restarts`             (1 + cos π(cycles · x mod 1)) / 2, and 0 from x = 1 on
 * - `polynomial`                       f + (1 − f) · (1 − x)^power, and f from x = 1 on
 * - `inverse_sqrt`                     √(s / (u + s − w)), s = w, or 10,000 without warm-up
 * Source: transformers 5.24, optimization.py.
 */
export function rateFactor(schedule: RateSchedule, update: number, updates: number): number {
  const { schedule: kind, warmupSteps, floorShare, scheduleCycles, schedulePower } = schedule;
  if (kind === "constant") return 1;
  const warmup = warmupUpdates(warmupSteps, updates);
  if (update < warmup) return update / warmup;
  const progress = (update - warmup) / Math.max(1, updates - warmup);
  switch (kind) {
    case "constant_with_warmup":
      return 1;
    case "linear":
      return Math.max(0, (updates - update) / Math.max(1, updates - warmup));
    case "cosine":
      return 0.5 * (1 + Math.cos(Math.PI * progress)) * (1 - floorShare) + floorShare;
    case "cosine_with_restarts":
      return progress >= 1 ? 0 : 0.5 * (1 + Math.cos(Math.PI * ((scheduleCycles * progress) % 1)));
    case "polynomial":
      return progress >= 1 ? floorShare : (1 - floorShare) * (1 - progress) ** schedulePower + floorShare;
    case "inverse_sqrt": {
      const timescale = warmup === 0 ? 10_000 : warmup;
      return Math.sqrt(timescale / (update + timescale - warmup));
    }
    default:
      return kind satisfies never;
  }
}

/** The learning rate of update u = 0, 1, … of `updates`. */
export function rateOfUpdate(schedule: RateSchedule, update: number, updates: number): number {
  if (!Number.isSafeInteger(update) || update < 0)
    throw new Error(`rateOfUpdate: expected an update from 0 on, got ${update}`);
  return schedule.learningRate * rateFactor(schedule, update, updates);
}

/** Problems with the settings of the schedule, in the form that a settings check returns. */
export function scheduleProblems({ schedule, warmupSteps, floorShare }: RateSchedule): string[] {
  const problems: string[] = [];
  if (schedule === "constant" && warmupSteps > 0)
    problems.push(
      `train.warmupSteps: ${warmupSteps} updates of warm-up do not go with train.schedule "constant"; set train.schedule to ` +
        '"constant_with_warmup"',
    );
  if (warmupSteps > 1 && !Number.isInteger(warmupSteps))
    problems.push(
      `train.warmupSteps: expected a whole number of updates, or a share of them below 1, got ${warmupSteps}`,
    );
  if (floorShare > 0 && !hasFloor(schedule))
    problems.push(
      `train.floorShare: train.schedule "${schedule}" has no floor; set train.schedule to "cosine" or "polynomial", or ` +
        "train.floorShare to 0",
    );
  return problems;
}

function hasFloor(schedule: ScheduleKind): boolean {
  return schedule === "cosine" || schedule === "polynomial";
}
