// Reads the conversations of training steps, from the files of all rollouts (rl/trainer.ts writes them, one per step, the
// rollouts of a prompt together): all of a step for rl/show.ts, samples for the report. And those of evaluations.
import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { asError, explained, type OnDamage } from "../../engine/host/index.ts";
import { trainingRolloutsPath } from "./layout.ts";

const conversation = z.object({
  episode: z.int(),
  rollout: z.int(),
  reward: z.number(),
  /** Assistant tokens; files of earlier versions lack it. */
  tokens: z.int().nullable().default(null),
  isTruncated: z.boolean().default(false),
  failure: z.string().nullable().default(null),
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
});
/** A conversation of a training step or of an evaluation. */
export type Conversation = z.infer<typeof conversation>;

const rollout = conversation.extend({ advantage: z.number(), isUsed: z.boolean().default(true) });
export type SampledRollout = z.infer<typeof rollout>;

/** `answers`: the sampled ids of each answer, end tokens included. */
const evaluated = conversation.extend({ answers: z.array(z.array(z.int())) });
export type EvaluatedRollout = z.infer<typeof evaluated>;

/** All rollouts of a step. @throws Error when the file is missing or damaged */
export function readStepRollouts(path: string): SampledRollout[] {
  return z.array(rollout).min(1).parse(linesOf(path));
}

/** All rollouts of an evaluation. @throws Error when the file is missing or damaged */
export function readEvaluationRollouts(path: string): EvaluatedRollout[] {
  return z.array(evaluated).min(1).parse(linesOf(path));
}

function linesOf(path: string): unknown[] {
  const lines = gunzipSync(explained(path, () => readFileSync(path)))
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
  return lines.map((line): unknown => JSON.parse(line));
}

/** Prompts per step whose first rollout is shown. */
const promptsShown = 3;

/**
 * The first rollout of the first prompts of each step. A step whose file is missing or damaged has none.
 * @param onDamage  called with a message about such a file
 */
export function readTrainingSamples(
  folder: string,
  steps: readonly number[],
  onDamage: OnDamage,
): { step: number; conversations: SampledRollout[] }[] {
  return steps.map((step) => {
    const path = trainingRolloutsPath(folder, step);
    const problem = (what: string): SampledRollout[] => {
      onDamage(`${path}: ${what}. Its sample conversations are left out of the report.`);
      return [];
    };
    if (!existsSync(path)) return { step, conversations: problem("missing") };
    try {
      const all = readStepRollouts(path);
      return { step, conversations: all.filter((one) => one.rollout === all[0].rollout).slice(0, promptsShown) };
    } catch (thrown) {
      return { step, conversations: problem(`cannot be read (${asError(thrown).message.split("\n")[0]})`) };
    }
  });
}
