// Which tokens of a rollout an update moved most: their log-probabilities under the checkpoint before and the one after.
//
// A run keeps no weights but its checkpoints, and of a rollout only its text. So the text is tokenised again (the sampled
// tokens may have been cut otherwise), and the two checkpoints may lie further apart than one step. Both are said.
import type { Progress } from "../engine/host/index.ts";
import type { Backend } from "../engine/index.ts";
import { type Chat, loadChat, loadForInference, loadTokenizer, score } from "../model/index.ts";
import type { Conversation } from "./files/training-samples.ts";
import { checkpointFolder, expectSound } from "./kept-checkpoints.ts";
import type { RunValues } from "./run-settings.ts";

/** A token of an answer, with its log-probability before and after. */
export interface MovedToken {
  readonly text: string;
  /** A few tokens before it. */
  readonly context: string;
  readonly before: number;
  readonly after: number;
}

/** The tokens of one rollout, those that moved most first. */
export interface MovedTokens {
  readonly tokens: readonly MovedToken[];
  /** Tokens of the text, and those that were sampled (null if the file does not say). */
  readonly counted: number;
  readonly sampled: number | null;
}

/** The kept checkpoints that enclose a step most closely; null if there are none. @param kept  ascending */
export function checkpointsAround(kept: readonly number[], step: number): { before: number; after: number } | null {
  const before = kept.findLast((one) => one < step);
  const after = kept.find((one) => one >= step);
  return before === undefined || after === undefined ? null : { before, after };
}

/** @throws RunFolderError when a checkpoint has changed since it was written */
export async function movedTokens(
  backend: Backend,
  folder: string,
  { train, environment, batch }: RunValues,
  rollouts: readonly Conversation[],
  { before, after }: { readonly before: number; readonly after: number },
  progress: Progress,
): Promise<MovedTokens[]> {
  const place = checkpointFolder(folder, before);
  const chat = await loadChat(place, await loadTokenizer(place));
  const sequences = rollouts.map((rollout) => textTokens(chat, rollout, environment.turn2Template));
  const scores: Float32Array[][] = [];
  for (const step of [before, after]) {
    expectSound(folder, step);
    const model = await loadForInference(backend, checkpointFolder(folder, step), "f32", {
      note: (line) => progress.line(line),
    });
    try {
      const found = await score(model, sequences, { temperature: train.temperature, maxTokens: batch.trainTokens });
      scores.push(found.map(({ logProbs }) => Float32Array.from(logProbs)));
    } finally {
      model.weights.free();
    }
  }
  return sequences.map(({ ids, mask }, i) => {
    const at = mask.flatMap((bit, t) => (bit === 1 ? [t] : []));
    const tokens = at.map((t, scored) => ({
      text: chat.tokenizer.decode([ids[t]], { skipSpecialTokens: false }),
      context: chat.tokenizer.decode(ids.slice(Math.max(0, t - 6), t), { skipSpecialTokens: false }),
      before: scores[0][i][scored],
      after: scores[1][i][scored],
    }));
    const moved = (token: MovedToken): number => Math.abs(token.after - token.before);
    return {
      tokens: tokens.sort((one, other) => moved(other) - moved(one)),
      counted: at.length,
      sampled: rollouts[i].tokens,
    };
  });
}

/** The conversation's tokens. An answer that was cut off at its end has no end token. */
function textTokens(
  chat: Chat,
  { messages, tokens, isTruncated }: Conversation,
  turn2Template: RunValues["environment"]["turn2Template"],
): { ids: number[]; mask: number[] } {
  const { ids, mask } = chat.dialogue(
    messages.map(({ role, content }) => ({
      role: role === "assistant" ? "assistant" : role === "system" ? "system" : "user",
      content,
    })),
    { turn2Template },
  );
  const counted = mask.reduce((sum, bit) => sum + bit, 0);
  const isCut = isTruncated && tokens !== null && counted === tokens + 1;
  return isCut ? { ids: ids.slice(0, -1), mask: mask.slice(0, -1) } : { ids, mask };
}
