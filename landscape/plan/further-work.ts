// How much is measured around all checkpoints besides the maps: rays, points at fixed KL, worst-case rays, lines, noise floors, pairs.
import { isFixedKl } from "../direction-settings.ts";
import { pairsFrom } from "../files/pair-files.ts";
import { linePoints, rayPoints, wantedScales, worstPoints } from "../files/ray-points.ts";
import { linesFrom, ownCheckpoints, worstRaysOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";

/** Scoring passes for one target on one half of a ray or at one edge of a grid, as a mean over runs: the search takes one to six. */
const passesPerTarget = 3;

export interface FurtherWork {
  /** Points with rollouts and scoring, as a grid point has. */
  readonly points: number;
  /** Scoring of the reference completions alone: tries at fixed KL, on rays and at the edges of grids; pairs of checkpoints. */
  readonly passes: number;
  /** Gradients on the reference completions, for worst-case rays. */
  readonly gradients: number;
  /** Rollouts of the checkpoint alone, for the noise floor. */
  readonly draws: number;
  /** Points on fresh prompts, without scoring, if every direction improves. */
  readonly freshPoints: number;
}

/** Products of the power method, of two gradients each; one gradient of J. */
const gradientsOf = { kl: 10, reward: 1 } as const;

export function furtherWork(settings: StudySettings): FurtherWork {
  const { landscape, shard } = settings;
  const { steps, rays, noiseFloor } = landscape;
  const lines = steps.flatMap((step) => linesFrom(step, landscape.line, ownCheckpoints(settings))).length;
  const hasRays = rays.count > 0;
  const targets = hasRays ? wantedScales(landscape, shard).length : 0;
  // A shard leaves what is one piece to the merged folder.
  const isWhole = shard === "";
  const worst = isWhole ? worstRaysOf(rays) : [];
  const rayCount = hasRays ? rayPoints(landscape, shard).length : 0;
  const edges = isFixedKl(landscape.directions) ? 2 * landscape.slices : 0;
  const perStep = rayCount + targets + worst.length * worstPoints(landscape).length;
  return {
    points: steps.length * perStep + lines * linePoints(landscape, shard).length,
    passes:
      steps.length * (targets + edges) * passesPerTarget +
      (landscape.pairs ? steps.reduce((sum, step) => sum + pairsFrom(step, steps, shard).length, 0) : 0),
    gradients: steps.length * worst.reduce((sum, kind) => sum + gradientsOf[kind], 0),
    draws: isWhole ? steps.length * noiseFloor : 0,
    freshPoints: isWhole && rays.freshPrompts > 0 ? steps.length * rayCount : 0,
  };
}
