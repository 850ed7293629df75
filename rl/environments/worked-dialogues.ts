// Correct dialogues for supervised training: the warm start that a tiny model needs before it can earn any reward.
//
// Some answers deliberately lack the requested form, while their content is right: with probability `dropTags`,
// independently per turn. So the model learns the task, but starts with a low reward that reinforcement learning can
// raise by learning the form, as the study's model does.
//
// Dialogue k depends only on (seed, k): a resumed run continues at dialogue k without making the earlier ones.
import { type ChatMessage, openingMessages, type WorkedEnvironment } from "./environment.ts";
import { labelledRandom } from "./python/random.ts";

export interface WorkedDialogueOptions {
  seed: number;
  /** Probability per turn that the answer lacks the requested form. The tiny study's warm start uses 0.8. */
  dropTags: number;
}

/**
 * Dialogue `index`, with user and assistant alternating. Its stream, labelled `worked|seed|index`, draws the episode
 * first and then one number per turn, so a different `dropTags` changes only the form of answers.
 */
export function workedDialogue(
  environment: WorkedEnvironment,
  { seed, dropTags }: WorkedDialogueOptions,
  index: number,
): ChatMessage[] {
  const random = labelledRandom(`worked|${seed}|${index}`);
  const episode = environment.draw(random, index);
  const turns = episode.workedTurns.flatMap(({ user, formatted, bare }): ChatMessage[] => [
    { role: "user", content: user },
    { role: "assistant", content: random.random() < dropTags ? bare : formatted },
  ]);
  return [...openingMessages(episode).filter(({ role }) => role === "system"), ...turns];
}
