// Drafts from answers to the same prompt with the same noise by policies that are nearly the same: what they said next is
// proposed to a rollout, which verifies many tokens in one pass (model/drafts.ts).
import type { Draft } from "../model/index.ts";
import type { Rollout } from "./rollout.ts";

/** When no other answer begins as this one: tokens before a place in another answer that must be the same, */
const agreeing = 2;
/** and tokens that are then proposed from there on. */
const tokensAfterDifference = 8;

export type Answers = readonly (readonly number[])[];
/** The same, wherever the ids lie. */
export type SaidAnswers = readonly ArrayLike<number>[];

/** The answers of a rollout: the runs of assistant tokens. */
export function answersOf({ ids, mask }: Pick<Rollout, "ids" | "mask">): Answers {
  const answers: number[][] = [];
  ids.forEach((id, t) => {
    if (mask[t] !== 1) return;
    if (mask[t - 1] !== 1) answers.push([]);
    answers[answers.length - 1].push(id);
  });
  return answers;
}

/** The next ids of a rollout's answer, given the answers before it and its ids so far. */
export type RolloutDraft = (earlier: Answers, answer: readonly number[]) => ReturnType<Draft>;

/**
 * What others said next: the first of them who has said the same so far; else who has begun this answer in the same way;
 * else the tokens after the nearest place of another answer whose last two tokens are the same. Null if there is none.
 * @param others  the best source first
 */
export function proposal(others: Iterable<SaidAnswers>, earlier: Answers, answer: readonly number[]): number[] | null {
  const turn = earlier.length;
  let begun: SaidAnswers | null = null;
  for (const said of others) {
    if (turn >= said.length || !beginsWith(said[turn], answer)) continue;
    if (earlier.every((one, t) => isSame(one, said[t]))) return idsOf(said[turn], answer.length);
    begun ??= said;
  }
  if (begun !== null) return idsOf(begun[turn], answer.length);
  for (const said of others) {
    const at = turn < said.length ? placeAfter(said[turn], answer) : null;
    if (at !== null) return idsOf(said[turn], at, at + tokensAfterDifference);
  }
  return null;
}

const idsOf = (said: ArrayLike<number>, from: number, to?: number): number[] => Array.from(said).slice(from, to);

function beginsWith(said: ArrayLike<number>, answer: readonly number[]): boolean {
  // The last token decides most cases.
  for (let t = answer.length - 1; t >= 0; t--) if (said[t] !== answer[t]) return false;
  return said.length > answer.length;
}

function isSame(one: readonly number[], other: ArrayLike<number>): boolean {
  return one.length === other.length && one.every((id, t) => id === other[t]);
}

/** The place in `said` nearest to the answer's end that has the answer's last two tokens before it; null if there is none. */
function placeAfter(said: ArrayLike<number>, answer: readonly number[]): number | null {
  const { length } = answer;
  if (length < agreeing) return null;
  const isPlace = (at: number): boolean => {
    if (at < agreeing || at >= said.length) return false;
    for (let back = 1; back <= agreeing; back++) if (said[at - back] !== answer[length - back]) return false;
    return true;
  };
  for (let away = 0; away <= Math.max(length, said.length); away++) {
    if (isPlace(length - away)) return length - away;
    if (isPlace(length + away)) return length + away;
  }
  return null;
}
