// Made-up landscapes whose shape is known, for figures and report: a bowl of KL and a hill of reward.
import type { DrawnEstimate, LandscapeMap, MapPoint, Study } from "../../landscape/report/figures/figure-data.ts";
import type { KlFromMap } from "../../landscape/statistics/kl-from.ts";
import type { RingPoint } from "../../landscape/statistics/ring-curve.ts";

/** Mulberry32: reproducible numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A bowl of KL with its minimum at the checkpoint, a hill of reward around (0.2, −0.1)·radius, seeded noise. */
export function syntheticMap(step: number, slice: number, n = 7, radius = 0.05): LandscapeMap {
  const random = seeded(1000 * step + slice);
  const points = Array.from({ length: n * n }, (_, k) => {
    const [i, j] = [Math.floor(k / n), k % n];
    const [u, v] = [(2 * i - (n - 1)) / (n - 1), (2 * j - (n - 1)) / (n - 1)];
    const reward = (0.2 + step / 40) * Math.exp(-((u - 0.2) ** 2) - (v + 0.1) ** 2) + 0.02 * random();
    const klToken = 0.04 * (u * u + 0.7 * v * v + 0.2 * u * v);
    const objective = 0.013 + 0.005 * u - 0.004 * v - 0.02 * (u * u + v * v) + 0.0003 * random();
    return {
      i,
      j,
      alpha: u * radius,
      beta: v * radius,
      reward,
      rewardError: 0.01 + 0.02 * random(),
      rewardReach: 0.03,
      klToken,
      objective,
      floorShare: Math.min(1, (u * u + v * v) / 2),
    };
  });
  const about = (value: number): DrawnEstimate => ({ value, low: value - 0.1, high: value + 0.15 });
  const r = -0.6 - 0.1 * random();
  return {
    step,
    slice,
    n,
    radius,
    points,
    rings: ringsOf(points, n),
    directions: {
      ...{ schemaVersion: 1, seed: 1, slice, digest: "made up", cosine: 0.004 },
      delta: { kind: "gaussian", norm: "tensor", length: 12.5, shares: { embedding: 0.7, mlp: 0.3 } },
      eta: {
        kind: "pca",
        norm: "none",
        remark: "61.0% of the variance",
        length: 1,
        shares: { attention: 0.25, mlp: 0.75 },
      },
      centre: { alpha: slice, beta: 0, random: 0 },
    },
    summary: {
      r: about(r),
      rInfinity: about(r * 1.2),
      withinRing: about(r * 0.3),
      originReward: 0.4,
      originRewardReach: 0.04,
    },
  };
}

/** Means of whole grid steps' rings, with a reach that is made up. */
function ringsOf(points: readonly MapPoint[], n: number): RingPoint[] {
  const ringOf = ({ i, j }: MapPoint) => Math.round(Math.hypot(i - (n - 1) / 2, j - (n - 1) / 2));
  return [...new Set(points.map(ringOf))]
    .sort((a, b) => a - b)
    .map((ring) => {
      const of = points.filter((point) => ringOf(point) === ring);
      const mean = (value: (point: MapPoint) => number) => of.reduce((sum, point) => sum + value(point), 0) / of.length;
      const [klToken, reward] = [mean((point) => point.klToken), mean((point) => point.reward)];
      return { ring, cells: of.length, klToken, reward, rewardReach: 0.02 };
    });
}

/** A map's own KL, and that from a checkpoint to its left: the further, the earlier. */
function syntheticKlFrom(step: number, slice: number, n: number): KlFromMap[] {
  const known = (value: number) => ({ value, low: value - 0.1, high: value + 0.1, standardError: 0.05 });
  const { points } = syntheticMap(step, slice, n);
  return [...new Set([0, step])].map((from) => ({
    ...{ step, slice, from, isOwn: from === step, klAtCentre: from === step ? 0 : 0.01 * step },
    ...{ r: known(-0.7), rInfinity: known(-0.8), withinRing: known(-0.2) },
    cells: points.map(({ i, j, klToken, alpha }) => ({
      i,
      j,
      kl_token: klToken + (step - from) * (0.01 + alpha / 10),
    })),
  }));
}

export function syntheticStudy(steps: readonly number[], slices: readonly number[], n = 7): Study {
  return {
    name: "Bowl and hill",
    settings: [{ key: "landscape.points", value: n }],
    notes: ["Everything here is made up."],
    training: steps.map((step) => ({
      step,
      reward: 0.2 + step / 40,
      evalReward: step % 2 === 0 ? 0.21 + step / 40 : null,
      evalRewardError: 0.01,
      evalRewardReach: 0.02,
      health: step === 0 ? {} : { entropy: 0.5 - step / 100, grad_norm: 0.3, "ratio/max": 1 + step / 50 },
    })),
    maps: steps.flatMap((step) => slices.map((slice) => syntheticMap(step, slice, n))),
    ...(steps.length > 1 && {
      trajectory: {
        schemaVersion: 1 as const,
        shares: [0.8, 0.15, 0.05],
        checkpoints: steps.map((step, k) => ({
          ...{ step, digest: "made up" },
          coordinates: [step, 3 * Math.sin(k)] as [number, number],
        })),
      },
    }),
    klFrom: steps.flatMap((step) => slices.flatMap((slice) => syntheticKlFrom(step, slice, n))),
  };
}
