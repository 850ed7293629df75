// The learning rate as a function of the step only, so that a resumed run needs only its step to continue.
// Steps count from 1, as the optimiser's do: step s is the s-th update.
import { SettingsError } from "../engine/host/index.ts";

export type Schedule =
  | { kind: "constant"; learningRate: number }
  | {
      kind: "cosine";
      /** The peak learning rate, reached at the end of the warm-up. */
      learningRate: number;
      /** Number of steps with a linear rise; 0 for no warm-up. */
      warmupSteps: number;
      /** The last step, where the rate reaches its floor and stays. A different number gives a different schedule. */
      steps: number;
      /** The floor as a share of the peak. */
      floorShare: number;
    };

/**
 * Learning rate of step s = 1, 2, …:
 * - `constant`  learningRate
 * - `cosine`    peak · s / warmupSteps up to warmupSteps, then floor + (peak − floor) · (1 + cos(π·x)) / 2
 *               with x = (s − warmupSteps) / (steps − warmupSteps), at most 1
 *
 * @throws SettingsError when the warm-up is not shorter than the steps, or the floor is not between 0 and 1
 */
export function learningRate(schedule: Schedule, step: number): number {
  if (!Number.isSafeInteger(step) || step < 1) throw new Error(`learningRate: expected a step from 1 on, got ${step}`);
  if (schedule.kind === "constant") return schedule.learningRate;
  const { learningRate: peak, warmupSteps, steps, floorShare } = schedule;
  if (!(warmupSteps >= 0 && warmupSteps < steps))
    throw new SettingsError(`schedule: expected 0 ≤ warm-up < steps, got ${warmupSteps} and ${steps} steps.`);
  if (!(floorShare >= 0 && floorShare <= 1))
    throw new SettingsError(`schedule: expected a floor between 0 and 1 of the peak, got ${floorShare}.`);
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  const floor = peak * floorShare;
  if (step >= steps) return floor;
  return floor + ((peak - floor) * (1 + Math.cos((Math.PI * (step - warmupSteps)) / (steps - warmupSteps)))) / 2;
}
