// Correct dialogues for supervised training: the warm start that a tiny model needs before it can earn any reward.
//
// The only fault put in on purpose is in the form, not in the answer: with probability `dropTags` an answer comes without
// the form that was asked for, each turn on its own. So the model learns the task, yet starts with a low reward that
// reinforcement can lift by finding the form, as the study's model does.
//
// Dialogue k depends on (seed, k) alone: a run that was stopped goes on at dialogue k without making the k before it.
import type { Message, WorkedEnvironment } from "./environment.ts";
import { labelledRandom } from "./python/random.ts";

export interface WorkedDialogueOptions {
  seed: number;
  /** Probability, turn by turn, that the answer lacks the form asked for. The tiny study's warm start takes 0.8. */
  dropTags: number;
}

/**
 * Dialogue `index`, user and assistant in turn. Its stream, labelled `worked|seed|index`, draws the episode first and
 * then one number a turn, so that another `dropTags` changes the form of answers and nothing else.
 */
export function workedDialogue(
  environment: WorkedEnvironment,
  { seed, dropTags }: WorkedDialogueOptions,
  index: number,
): Message[] {
  const random = labelledRandom(`worked|${seed}|${index}`);
  return environment.draw(random, index).workedTurns.flatMap(({ user, formatted, bare }): Message[] => [
    { role: "user", content: user },
    { role: "assistant", content: random.random() < dropTags ? bare : formatted },
  ]);
}
