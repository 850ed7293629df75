// Where a conversation at a grid point first differs from the checkpoint's. Both are drawn with the same noise, so they
// are the same up to the first token that the perturbation changed.
import type { CellConversations, CommonStart, CommonStarts, LandscapeMap } from "./figures/figure-data.ts";

type Said = CellConversations["conversations"][number];

/** The first difference, in the cell's conversation. Places are counted in UTF-16 units of the message's text. */
export interface FirstDifference {
  /** Index of the message. */
  readonly message: number;
  readonly start: number;
  /** End of the differing token in the cell's message, and in the checkpoint's; equal to `start` if the answer ends. */
  readonly end: number;
  readonly endAtCheckpoint: number;
}

/** Where `said` leaves `home`; `difference` is null if it never does. */
export function compareConversations(
  said: Said,
  home: Said,
): { common: CommonStart; difference: FirstDifference | null } {
  const hasTokens = said.tokenLengths !== undefined && home.tokenLengths !== undefined;
  let tokens = 0;
  let answer = 0;
  for (const [message, { role, content }] of said.messages.entries()) {
    const other = home.messages[message];
    if (role !== "assistant") continue;
    if (other === undefined) break;
    const [own, its] = hasTokens
      ? [said.tokenLengths?.[answer] ?? [], home.tokenLengths?.[answer] ?? []]
      : [wordLengths(content), wordLengths(other.content)];
    answer++;
    let start = 0;
    for (let k = 0; k < Math.max(own.length, its.length); k++) {
      const [end, endAtCheckpoint] = [start + (own[k] ?? 0), start + (its[k] ?? 0)];
      const isEqual =
        k < own.length && k < its.length && content.slice(start, end) === other.content.slice(start, endAtCheckpoint);
      if (!isEqual) return { common: { tokens, isSame: false }, difference: { message, start, end, endAtCheckpoint } };
      tokens++;
      start = end;
    }
  }
  return { common: { tokens, isSame: true }, difference: null };
}

/** Lengths of the words, each with the white space before it. */
function wordLengths(text: string): number[] {
  return (text.match(/\s*\S+|\s+$/g) ?? []).map(({ length }) => length);
}

/**
 * The common starts of the conversations that were kept, at every cell but the checkpoint's. Null if the checkpoint has
 * none. Those of all rollouts are the columns `differs_…` of points.csv.
 */
export function commonStarts(map: LandscapeMap): CommonStarts | null {
  const middle = (map.n - 1) / 2;
  const home = map.conversations?.find(({ i, j }) => i === middle && j === middle)?.conversations;
  if (home === undefined || home.length === 0) return null;
  const others = (map.conversations ?? []).filter(({ i, j }) => i !== middle || j !== middle);
  const hasTokens = [home, ...others.map(({ conversations }) => conversations)]
    .flat()
    .every(({ tokenLengths }) => tokenLengths !== undefined);
  return {
    unit: hasTokens ? "tokens" : "words",
    cells: others.map(({ i, j, conversations }) => ({
      i,
      j,
      starts: conversations
        .slice(0, home.length)
        .map((said, prompt) => compareConversations(said, home[prompt]).common),
    })),
  };
}
