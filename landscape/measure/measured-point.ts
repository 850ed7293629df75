// What a sweep keeps of a rollout at a point, and a point's record from its rollouts and scores.
import type { Tokenizer } from "../../model/index.ts";
import { type Answers, answersOf, type Rollout } from "../../rl/index.ts";
import type { CellRecord } from "../files/cells.ts";
import type { PointPlace } from "../grid.ts";
import type { DraftSource, OwnAnswers } from "./drafts.ts";
import { firstDifference, firstDifferences } from "./first-difference.ts";
import type { Reference } from "./reference.ts";
import type { SweepContext } from "./sweep-context.ts";
import type { MeasuredRollout, RolloutKey, UnderWay } from "./under-way.ts";

/** The answers of the checkpoint's own completions: the rollouts at the centre, as far as they were sampled. */
export function ownAnswers({ rollouts, rolloutsPerPrompt }: Reference): OwnAnswers {
  return (prompt, rollout) => {
    const found = rollout < rolloutsPerPrompt ? rollouts.at(prompt * rolloutsPerPrompt + rollout) : undefined;
    return found === undefined ? null : answersOf(found);
  };
}

/** Keeps what a sweep needs of a rollout that has ended. */
export function keepRollout(
  { chat, settings: { landscape } }: SweepContext,
  rollout: Rollout,
  key: RolloutKey,
  own: OwnAnswers,
  underWay: UnderWay,
  drafts: DraftSource | null,
): void {
  const isKept = key.prompt < landscape.conversations && key.rollout === 0;
  const answers = answersOf(rollout);
  underWay.add(key, measuredOf(rollout, isKept ? chat.tokenizer : null, answers, own(key.prompt, key.rollout)));
  drafts?.add(key, answers);
}

/** A point's line of cells.jsonl, and its conversations. All of its rollouts must be there. */
export function recordOf(
  context: SweepContext,
  { i, j, alpha, beta }: PointPlace,
  underWay: UnderWay,
  reference: Reference,
  scored: CellRecord["reference"],
): [CellRecord, string] {
  const byPrompt = rolloutsAt(context, { i, j, alpha, beta }, underWay);
  const hasForm = byPrompt.some((prompt) => prompt.some(({ formatFailed }) => formatFailed !== null));
  const hasFailures = byPrompt.some((prompt) => prompt.some(({ isFailed }) => isFailed));
  const of = (value: (rollout: MeasuredRollout) => number): number[][] => byPrompt.map((prompt) => prompt.map(value));
  return [
    {
      ...{ i, j, alpha, beta },
      rollouts: {
        reward: of(({ reward }) => reward),
        tokens: of(({ tokens }) => tokens),
        entropy: of(({ entropy }) => entropy),
        truncated: of(({ isTruncated }) => (isTruncated ? 1 : 0)),
        ...(hasForm && { formatFailed: of(({ formatFailed }) => (formatFailed === false ? 0 : 1)) }),
        ...(hasFailures && { failed: of(({ isFailed }) => (isFailed ? 1 : 0)) }),
      },
      reference: scored,
      ...firstDifferences(byPrompt, reference),
    },
    byPrompt.flatMap((prompt) => prompt.map(({ conversation }) => conversation ?? "")).join(""),
  ];
}

/** The rollouts of a grid point, [prompt][rollout]. */
export function rolloutsAt({ settings }: SweepContext, { i, j }: PointPlace, underWay: UnderWay): MeasuredRollout[][] {
  const { prompts, rollouts: perPrompt } = settings.landscape.rollouts;
  return Array.from({ length: prompts }, (_, prompt) =>
    Array.from({ length: perPrompt }, (__, rollout) => {
      const measured = underWay.find({ i, j, prompt, rollout });
      if (measured === undefined) throw new Error(`sweep: no rollout ${rollout} of prompt ${prompt} at a point`);
      return measured;
    }),
  );
}

/** @param keptWith  the tokenizer if the conversation is kept, else null */
function measuredOf(
  rollout: Rollout,
  keptWith: Tokenizer | null,
  answers: Answers,
  checkpoints: Answers | null,
): MeasuredRollout {
  const { episode, reward, failure, messages, tokens, entropySum, isTruncated, parts } = rollout;
  return {
    reward,
    tokens,
    entropy: entropySum,
    isTruncated,
    formatFailed: parts.formatFailed?.some(Boolean) ?? null,
    ...(failure !== null && { isFailed: true as const }),
    ...(checkpoints !== null && { firstDifference: firstDifference(answers, checkpoints) }),
    conversation:
      keptWith === null
        ? null
        : `${JSON.stringify({ episode, reward, failure, messages, tokenLengths: tokenLengths(answers, keptWith) })}\n`,
  };
}

/** For each answer the UTF-16 units of text that each of its tokens adds: 0 for the end token and within a character. */
function tokenLengths(answers: Answers, tokenizer: Tokenizer): number[][] {
  return answers.map((ids) => {
    const text = tokenizer.stream({ skipSpecialTokens: true });
    const lengths = ids.map((id) => text.push(id).length);
    const rest = text.end().length;
    if (lengths.length > 0) lengths[lengths.length - 1] += rest;
    return lengths;
  });
}
