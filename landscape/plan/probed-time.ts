// How long a sweep takes, from one grid point that was measured.
import { formatDuration } from "../../engine/host/index.ts";
import type { CellProbe } from "../measure/probe-cell.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";
import { furtherWork } from "./further-work.ts";

/** Grid points of all maps, in the shard if there is one. */
export function plannedCells({ shard, landscape }: StudySettings): number {
  return landscape.steps.length * landscape.slices * shardCells(shard, landscape).length;
}

export function probedTime({ cell, prompts, seconds, drafted, spared }: CellProbe, settings: StudySettings): string[] {
  const { steps, reference, rollouts, drafts } = settings.landscape;
  const cells = plannedCells(settings);
  const text = (value: number): string => formatDuration(1000 * value);
  const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;
  const perCell = seconds.point;
  const all = Math.max(reference.prompts, rollouts.prompts);
  const { points, passes, gradients, draws, freshPoints } = furtherWork(settings);
  // A gradient is a forward and a backward pass.
  const further =
    points * perCell +
    (passes + 3 * gradients) * seconds.scoring +
    (draws + (freshPoints * settings.landscape.rays.freshPrompts) / rollouts.prompts) * seconds.rollouts;
  return [
    `Time: ${text(steps.length * seconds.reference + cells * perCell + further)}`,
    `  the checkpoints' completions: ${text(steps.length * seconds.reference)} (${steps.length} × ${text(seconds.reference)})`,
    `  grid points: ${text(cells * perCell)} (${cells} × ${text(perCell)}; alone, its rollouts take ${text(seconds.rollouts)}, its scoring ${text(seconds.scoring)})`,
    ...(further === 0
      ? []
      : [
          `  rays, lines, pairs, scales to a fixed KL and noise floors: ${text(further)} (${points} points, ${passes} scoring passes, ${gradients} gradients, ${draws} draws` +
            (freshPoints === 0 ? ")" : `, at most ${freshPoints} points on fresh prompts)`),
        ]),
    `  This rests on one grid point, measured on this adapter with the first checkpoint's weights at alpha ${cell.alpha}, beta ${cell.beta}` +
      (prompts < all ? `, with ${prompts} of ${all} prompts, and multiplied.` : "."),
    drafts === "on"
      ? `  Drafts, there from the checkpoint's own completions alone: ${percent(drafted)} of the tokens were as the draft had them, ${percent(spared)} ` +
        "needed no decode step. Grid points that are measured together, beside finished neighbours, take less time each."
      : "  Drafts are off (--landscape.drafts).",
    "  Not counted: loading, compiling, writing perturbed weights, files, statistics and figures.",
  ];
}
