// Reads sample conversations of training steps for the report, from the files of all rollouts (rl/trainer.ts writes
// them, one per step, the rollouts of a prompt together).
import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { asError, explained, type OnDamage } from "../../engine/host/index.ts";
import { trainingRolloutsPath } from "./layout.ts";

const rollout = z.object({
  episode: z.int(),
  rollout: z.int(),
  reward: z.number(),
  advantage: z.number(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
});
type SampledRollout = z.infer<typeof rollout>;

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
      const lines = gunzipSync(explained(path, () => readFileSync(path)))
        .toString("utf8")
        .split("\n")
        .filter((line) => line !== "");
      const all = z.array(rollout).parse(lines.map((line): unknown => JSON.parse(line)));
      return { step, conversations: all.filter((one) => one.rollout === all[0].rollout).slice(0, promptsShown) };
    } catch (thrown) {
      return { step, conversations: problem(`cannot be read (${asError(thrown).message.split("\n")[0]})`) };
    }
  });
}
