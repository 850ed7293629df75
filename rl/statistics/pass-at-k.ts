// From the rewards of several rollouts of a prompt: how often it is solved, in k tries, and by how many prompts.
// A rollout succeeds when its reward reaches a threshold.

/**
 * Unbiased pass@k of one prompt: 1 − C(n − c, k) / C(n, k), with c successes in n rollouts: the chance that k of the n,
 * drawn without replacement, hold a success. Source: Chen et al. 2021, eq. 1.
 * @returns null when k > n
 */
export function passAtK(rewards: readonly number[], threshold: number, k: number): number | null {
  const n = rewards.length;
  if (k > n) return null;
  const successes = rewards.filter((reward) => reward >= threshold).length;
  if (n - successes < k) return 1;
  let allFail = 1;
  for (let i = n - successes + 1; i <= n; i++) allFail *= 1 - k / i;
  return 1 - allFail;
}

/** Cover@τ: share of prompts whose success rate over their rollouts is at least τ. */
export function coverAt(rewards: readonly (readonly number[])[], threshold: number, tau: number): number {
  const covered = rewards.filter((of) => of.filter((reward) => reward >= threshold).length >= tau * of.length);
  return covered.length / rewards.length;
}

/** Share of rewards that are 0. Above one half a map mainly shows where the task fails completely, and r is flagged. */
export function floorShare(rewards: Iterable<readonly (readonly number[])[]>): { share: number; isFlagged: boolean } {
  let zeros = 0;
  let count = 0;
  for (const ofCell of rewards)
    for (const ofPrompt of ofCell)
      for (const reward of ofPrompt) {
        count++;
        if (reward === 0) zeros++;
      }
  const share = count === 0 ? 0 : zeros / count;
  return { share, isFlagged: share > 0.5 };
}
