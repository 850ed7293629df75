// Drafts from answers to the same prompt with the same noise by policies that are nearly the same: what they said next is
// proposed to a rollout, which verifies many tokens in one pass (model/drafts.ts).
import type { Draft } from "../model/index.ts";
import type { Rollout } from "./rollout.ts";

/** When no other answer begins as this one: tokens before a place in another answer that must be the same, */
const agreeing = 2;
/** and tokens that are then proposed from there on. */
const tokensAfterDifference = 8;

export type Answers = readonly (readonly number[])[];

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
export function proposal(others: readonly Answers[], earlier: Answers, answer: readonly number[]): number[] | null {
  const turn = earlier.length;
  const begun = others.filter((said) => turn < said.length && beginsWith(said[turn], answer));
  const source = begun.find((said) => earlier.every((one, t) => isSame(one, said[t]))) ?? begun.at(0);
  if (source !== undefined) return source[turn].slice(answer.length);
  for (const said of others) {
    const at = turn < said.length ? placeAfter(said[turn], answer) : null;
    if (at !== null) return said[turn].slice(at, at + tokensAfterDifference);
  }
  return null;
}

function beginsWith(said: readonly number[], answer: readonly number[]): boolean {
  // The last token decides most cases.
  for (let t = answer.length - 1; t >= 0; t--) if (said[t] !== answer[t]) return false;
  return said.length > answer.length;
}

function isSame(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((id, t) => id === other[t]);
}

/** The place in `said` nearest to the answer's end that has the answer's last two tokens before it; null if there is none. */
function placeAfter(said: readonly number[], answer: readonly number[]): number | null {
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
