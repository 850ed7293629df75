// From the rewards of several rollouts of a prompt: how often it is solved, in k tries, and by how many prompts.
// A rollout succeeds when its reward reaches a threshold.

/** Number of rewards that reach the threshold. */
export function successesOf(rewards: readonly number[], threshold: number): number {
  let count = 0;
  for (const reward of rewards) if (reward >= threshold) count++;
  return count;
}

/**
 * Unbiased pass@k of one prompt: 1 − C(n − c, k) / C(n, k), with c successes in n rollouts: the chance that k of the n,
 * drawn without replacement, hold a success. Source: Chen et al. 2021, eq. 1.
 * @returns null when k > n
 */
export const passAtK = (rewards: readonly number[], threshold: number, k: number): number | null =>
  passAtKOf(rewards.length, successesOf(rewards, threshold), k);

/** As `passAtK`, from n rollouts of which `successes` reached the threshold. */
export function passAtKOf(n: number, successes: number, k: number): number | null {
  if (k > n) return null;
  if (n - successes < k) return 1;
  let allFail = 1;
  for (let i = n - successes + 1; i <= n; i++) allFail *= 1 - k / i;
  return 1 - allFail;
}

/** Cover@τ: share of prompts whose success rate over their rollouts is at least τ. */
export const coverAt = (rewards: readonly (readonly number[])[], threshold: number, tau: number): number =>
  coverAtOf(
    rewards.map((of) => ({ n: of.length, successes: successesOf(of, threshold) })),
    tau,
  );

/** As `coverAt`, from the number of rollouts and successes of each prompt. */
export function coverAtOf(prompts: readonly { n: number; successes: number }[], tau: number): number {
  let covered = 0;
  for (const { n, successes } of prompts) if (successes >= tau * n) covered++;
  return covered / prompts.length;
}

/** Share of rewards that are 0. Above one half a map mainly shows where the task fails completely, and r is flagged. */
export function floorShare(rewards: Iterable<readonly (readonly number[])[]>): { share: number; isFlagged: boolean } {
  let zeros = 0;
  let count = 0;
  for (const ofCell of rewards)
    for (const ofPrompt of ofCell) {
      count += ofPrompt.length;
      zeros += zerosOf(ofPrompt);
    }
  return floorShareOf(zeros, count);
}

export function zerosOf(rewards: readonly number[]): number {
  let zeros = 0;
  for (const reward of rewards) if (reward === 0) zeros++;
  return zeros;
}

/** As `floorShare`, from the number of rewards that are 0 and of all rewards. */
export function floorShareOf(zeros: number, count: number): { share: number; isFlagged: boolean } {
  const share = count === 0 ? 0 : zeros / count;
  return { share, isFlagged: share > 0.5 };
}
