// What a study computes: the parts of its training (rl/work-parts.ts), and those of the landscapes around its checkpoints.
import type { Chat, LanguageModel } from "../../model/index.ts";
import {
  type Environment,
  generationWork,
  type Lengths,
  lengthsOf,
  scoringWork,
  trainingWork,
  type WorkPart,
} from "../../rl/index.ts";
import type { StudySettings } from "../settings.ts";
import { shardCells } from "../shard.ts";
import { furtherWork } from "./further-work.ts";

/** A forward and a backward pass, in forward passes. */
const gradientPasses = 3;

/** Every part of the study. */
export function workOf(
  config: LanguageModel,
  chat: Chat,
  environment: Environment,
  settings: StudySettings,
): { parts: WorkPart[]; lengths: { train: Lengths; landscape: Lengths }; knowsRight: boolean } {
  const { reference, rollouts, rays, slices, steps, episodeSeed, maxNewTokens, klFrom } = settings.landscape;
  const training = trainingWork(config, chat, environment, settings);
  const swept = lengthsOf(chat, environment, {
    seed: episodeSeed,
    count: Math.max(reference.prompts, rollouts.prompts),
    maxNewTokens,
  });
  const cells = steps.length * slices * shardCells(settings.shard, settings.landscape).length;
  const ofReference = reference.prompts * reference.rollouts;
  const perPoint = rollouts.prompts * rollouts.rollouts;
  const further = furtherWork(settings);
  const completions = "landscape: the checkpoints' completions";
  const parts = [
    generationWork(config, completions, steps.length * ofReference, reference.rollouts, swept),
    generationWork(config, "landscape: rollouts", cells * perPoint, rollouts.rollouts, swept),
    scoringWork(config, "landscape: scoring", (cells + steps.length) * ofReference, swept, "forward", 1),
    generationWork(config, "rays, lines: rollouts", further.points * perPoint, rollouts.rollouts, swept),
    scoringWork(
      config,
      "rays, lines, pairs, fixed KL: scoring",
      (further.points + further.passes) * ofReference,
      swept,
      "forward",
      1,
    ),
    scoringWork(
      config,
      "worst-case rays: gradients",
      further.gradients * ofReference,
      swept,
      "forward",
      gradientPasses,
    ),
    generationWork(config, "noise floor: rollouts", further.draws * perPoint, rollouts.rollouts, swept),
    generationWork(
      config,
      "fresh prompts: rollouts, at most",
      further.freshPoints * rays.freshPrompts * rollouts.rollouts,
      rollouts.rollouts,
      swept,
    ),
    scoringWork(
      config,
      "landscape: KL from others",
      klFrom.reduce((sum, from) => sum + steps.filter((step) => step !== from).length, 0) *
        (cells / Math.max(1, steps.length)) *
        ofReference,
      swept,
      "forward",
      1,
    ),
  ];
  return {
    parts: [
      ...(settings.checkpoints.length > 0 ? [] : training.parts),
      ...parts.filter(({ conversations }) => conversations > 0),
    ],
    lengths: { train: training.lengths, landscape: swept },
    knowsRight: training.knowsRight,
  };
}
