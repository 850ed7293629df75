// Advantages: how much better each completion of a prompt did than the others of its group. Computed on the host in
// float64: there are few of them, and if rewards are nearly equal, one small number is divided by another.

/** Kinds of advantages that need only the rewards of one group. */
export type GroupAdvantageKind = "grpo" | "grpo_sample" | "dr_grpo" | "leave_one_out";
export type AdvantageKind = GroupAdvantageKind | "batch";

export const groupAdvantageKinds: readonly GroupAdvantageKind[] = ["grpo", "grpo_sample", "dr_grpo", "leave_one_out"];
export const advantageKinds: readonly AdvantageKind[] = [...groupAdvantageKinds, "batch"];

/** The usual ε: so small that it has no effect unless the rewards of a group are almost equal. */
export const usualAdvantageEpsilon = 1e-8;

/**
 * Advantages of one group of G rewards, with m their mean:
 * - `grpo`           (r − m) / (s + ε), s the population standard deviation (÷ G)
 * - `grpo_sample`    the same with the sample's (÷ G − 1)
 * - `dr_grpo`        r − m (Liu et al. 2025)
 * - `leave_one_out`  r minus the mean of the others, = (r − m)·G / (G − 1) (Ahmadian et al. 2024)
 *
 * All are exactly 0 when the rewards are equal, so also for a group of one.
 * @param epsilon  ε, above 0; without effect in the last two
 * @throws Error on a reward that is not finite, which would make all advantages of its group 0 or NaN
 */
export function groupAdvantages(
  kind: GroupAdvantageKind,
  rewards: ArrayLike<number>,
  epsilon: number = usualAdvantageEpsilon,
): Float64Array {
  const size = rewards.length;
  const values = Float64Array.from(rewards);
  const broken = values.findIndex((reward) => !Number.isFinite(reward));
  if (broken >= 0)
    throw new Error(`advantages: expected finite rewards, got ${values[broken]} at ${broken} of ${size}`);
  if (values.every((reward) => reward === values[0])) return new Float64Array(size);
  const mean = values.reduce((sum, reward) => sum + reward, 0) / size;
  const centred = values.map((reward) => reward - mean);
  const squares = centred.reduce((sum, difference) => sum + difference * difference, 0);
  const scale = (): number => {
    switch (kind) {
      case "grpo":
        return 1 / (Math.sqrt(squares / size) + epsilon);
      case "grpo_sample":
        return 1 / (Math.sqrt(squares / (size - 1)) + epsilon);
      case "dr_grpo":
        return 1;
      case "leave_one_out":
        return size / (size - 1);
      default:
        return kind satisfies never;
    }
  };
  const factor = scale();
  return centred.map((difference) => difference * factor);
}

/** The mean: the sum from left to right, divided by the count; 0 for an empty list. */
export function meanOf(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Variance Σ (x − mean)² / d, with d the count ("population") or the count − 1 ("sample"). Exactly 0 if all values are
 * equal, even if rounding makes their computed mean differ from them. 0 for fewer than two values.
 */
export function variance(values: readonly number[], kind: "population" | "sample"): number {
  if (values.every((value) => value === values[0])) return 0;
  const mean = meanOf(values);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return squares / (kind === "population" ? values.length : values.length - 1);
}

/** The square root of the variance; exactly 0 if all values are equal. */
export function standardDeviation(values: readonly number[], kind: "population" | "sample"): number {
  return Math.sqrt(variance(values, kind));
}

/**
 * Advantages of a batch of consecutive groups of `groupSize` rewards each; or of these sizes, where rollouts without a
 * reward are left out. With m the mean of a reward's group:
 * - `batch`     (r − m) / (s + ε), s the sample standard deviation of all rewards of the batch; exactly 0 in groups whose
 *               rewards are equal (arXiv 2508.08221; TRL's scale_rewards = "batch", with ε = 1e-4)
 * - the others  computed per group, see `groupAdvantages`
 * @throws Error when the rewards are not whole groups, or a reward is not finite
 */
export function batchAdvantages(
  kind: AdvantageKind,
  rewards: ArrayLike<number>,
  groupSize: number | readonly number[],
  epsilon: number = usualAdvantageEpsilon,
): Float64Array {
  const sizes = typeof groupSize === "number" ? equalSizes(rewards.length, groupSize) : groupSize;
  if (sizes.reduce((sum, size) => sum + size, 0) !== rewards.length)
    throw new Error(`advantages: expected whole groups of ${groupSize}, got ${rewards.length} rewards`);
  const values = Float64Array.from(rewards);
  const advantages = new Float64Array(values.length);
  const factor = kind === "batch" ? 1 / (standardDeviation([...values], "sample") + epsilon) : 1;
  let start = 0;
  for (const size of sizes) {
    const group = groupAdvantages(kind === "batch" ? "dr_grpo" : kind, values.subarray(start, start + size), epsilon);
    for (const [i, advantage] of group.entries()) advantages[start + i] = advantage * factor;
    start += size;
  }
  return advantages;
}

function equalSizes(count: number, size: number): number[] {
  return Number.isSafeInteger(size) && size > 0 ? new Array<number>(Math.floor(count / size)).fill(size) : [];
}
