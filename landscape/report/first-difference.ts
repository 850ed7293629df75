// Where a conversation at a grid point first differs from the checkpoint's. Both are drawn with the same noise, so they
// are the same up to the first token that the perturbation changed.
import type { CellRecord } from "../files/cells.ts";
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

/**
 * The common starts that the sweep measured for all rollouts (`firstDifference` of cells.jsonl).
 * @returns undefined for cells of earlier versions
 */
export function measuredStarts(
  cells: readonly Pick<CellRecord, "i" | "j" | "firstDifference" | "rollouts">[],
  points: number,
): CommonStarts | undefined {
  const middle = (points - 1) / 2;
  const others = cells.filter(({ i, j }) => i !== middle || j !== middle);
  const measured = others.map(({ i, j, firstDifference, rollouts }) => ({
    i,
    j,
    starts: (firstDifference ?? []).flatMap((group, prompt) =>
      group.map(
        (before, rollout): CommonStart =>
          before < 0 ? { tokens: rollouts.tokens[prompt][rollout], isSame: true } : { tokens: before, isSame: false },
      ),
    ),
  }));
  const isMeasured = measured.length > 0 && measured.every(({ starts }) => starts.length > 0);
  return isMeasured ? { unit: "tokens", cells: measured } : undefined;
}

/** Lengths of the words, each with the white space before it. */
function wordLengths(text: string): number[] {
  return (text.match(/\s*\S+|\s+$/g) ?? []).map(({ length }) => length);
}

/**
 * The common starts at every cell but the checkpoint's: those that were measured for all rollouts if the map has them,
 * else those of the conversations that were kept. Null if neither is there, or if the checkpoint has none.
 */
export function commonStarts(map: LandscapeMap): CommonStarts | null {
  if (map.commonStarts !== undefined) return map.commonStarts;
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
