// Python's `difflib.SequenceMatcher(None, a, b).ratio()` on strings, exactly, including "autojunk". No other measure of
// similarity can replace it: if b has 200 characters or more, matches no longer start at its frequent characters, and
// ratios
// of slightly wrong long answers fall from 0.99 to 0.6. The measure is not symmetric: a is the prediction, b the truth.
//
// Algorithm: find the longest block that both texts share (the earliest in a, then in b), and repeat this left and
// right of it. The blocks' total size M gives ratio = 2·M / (|a| + |b|), counted in code points.
import { codePoints } from "./text.ts";

/** 2·M / (|a| + |b|), M the total size of the matching blocks; 1 when both are empty. */
export function ratio(a: string, b: string): number {
  const left = codePoints(a);
  const right = codePoints(b);
  const length = left.length + right.length;
  return length === 0 ? 1 : (2 * matchedCharacters(left, right)) / length;
}

function matchedCharacters(a: readonly number[], b: readonly number[]): number {
  const index = indexOf(b);
  let matched = 0;
  const pending: [number, number, number, number][] = [[0, a.length, 0, b.length]];
  for (let range = pending.pop(); range !== undefined; range = pending.pop()) {
    const [aLow, aHigh, bLow, bHigh] = range;
    const { aStart, bStart, size } = longestMatch(a, b, index, aLow, aHigh, bLow, bHigh);
    if (size === 0) continue;
    matched += size;
    if (aLow < aStart && bLow < bStart) pending.push([aLow, aStart, bLow, bStart]);
    if (aStart + size < aHigh && bStart + size < bHigh) pending.push([aStart + size, aHigh, bStart + size, bHigh]);
  }
  return matched;
}

/**
 * Positions of each character of b, ascending. If b has 200 or more, characters with over 1% + 1 positions are omitted.
 */
function indexOf(b: readonly number[]): Map<number, number[]> {
  const index = new Map<number, number[]>();
  b.forEach((character, position) => {
    const positions = index.get(character);
    if (positions === undefined) index.set(character, [position]);
    else positions.push(position);
  });
  if (b.length >= 200) {
    const most = Math.floor(b.length / 100) + 1;
    for (const [character, positions] of index) if (positions.length > most) index.delete(character);
  }
  return index;
}

/**
 * The longest block of indexed characters that a[aLow, aHigh) and b[bLow, bHigh) share, extended on both sides over any
 * equal characters. The extension may match omitted (frequent) characters, also from an empty block at (aLow, bLow).
 */
function longestMatch(
  a: readonly number[],
  b: readonly number[],
  index: ReadonlyMap<number, readonly number[]>,
  aLow: number,
  aHigh: number,
  bLow: number,
  bHigh: number,
): { aStart: number; bStart: number; size: number } {
  let aStart = aLow;
  let bStart = bLow;
  let size = 0;
  // runs.get(j) is the length of the common run that ends at a[i - 1] and b[j].
  let runs = new Map<number, number>();
  for (let i = aLow; i < aHigh; i++) {
    const next = new Map<number, number>();
    for (const j of index.get(a[i]) ?? []) {
      if (j < bLow) continue;
      if (j >= bHigh) break;
      const run = 1 + (runs.get(j - 1) ?? 0);
      next.set(j, run);
      // Strictly larger: among blocks of equal size, the one that ends first in a, then in b, is kept.
      if (run > size) {
        aStart = i - run + 1;
        bStart = j - run + 1;
        size = run;
      }
    }
    runs = next;
  }
  while (aStart > aLow && bStart > bLow && a[aStart - 1] === b[bStart - 1]) {
    aStart--;
    bStart--;
    size++;
  }
  while (aStart + size < aHigh && bStart + size < bHigh && a[aStart + size] === b[bStart + size]) size++;
  return { aStart, bStart, size };
}
