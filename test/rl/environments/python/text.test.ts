import { equal, is } from "uvu/assert";
import { codePoints, compareCodePoints, isUpper, lower, strip } from "../../../../rl/environments/python/text.ts";
import { describe } from "../../../support.ts";
import { readKnown } from "../../known/read.ts";

interface Known {
  strip: [string, string][];
  lower: [string, string][];
  sorted: string[];
  /** [first, last, first, last, …] */
  assigned: number[];
  upper: number[];
  space: number[];
  /** Each character that lower() changes, followed by what it becomes, separated by spaces. */
  lowered: string;
}

describe("rl/environments/python/text", (test) => {
  // CPython's own answers: test/rl/known/python.py.
  const known = readKnown<Known>("python.json");
  const expand = (ranges: readonly number[]) => {
    const members = new Set<number>();
    for (let i = 0; i < ranges.length; i += 2) for (let c = ranges[i]; c <= ranges[i + 1]; c++) members.add(c);
    return members;
  };
  // Only characters that the Python at hand knew: Node's Unicode may be newer.
  const assigned = expand(known.assigned);
  const every = (same: (character: string, code: number) => boolean) => {
    for (const code of assigned)
      if (!same(String.fromCodePoint(code), code)) throw new Error(`differs at U+${code.toString(16)}`);
    is(assigned.size > 140_000, true);
  };

  test("isUpper is Python's for every assigned character", () => {
    const upper = expand(known.upper);
    every((character, code) => isUpper(character) === upper.has(code));
  });
  test("lower is Python's for every assigned character", () => {
    const lowered = new Map(
      known.lowered.split(" ").map((pair) => {
        const [from, ...to] = pair;
        return [from, to.join("")];
      }),
    );
    every((character) => lower(character) === (lowered.get(character) ?? character));
  });
  test("strip takes away Python's spaces and no others", () => {
    const space = expand(known.space);
    every((character, code) => (strip(`${character}x${character}`) === "x") === space.has(code));
    for (const [text, expected] of known.strip) is(strip(text), expected, JSON.stringify(text));
  });
  test("lower of words: final sigma, dotted capital I", () => {
    for (const [word, expected] of known.lower) is(lower(word), expected, word);
  });
  test("order is by code point, also beyond U+FFFF", () => {
    equal([...known.sorted].reverse().sort(compareCodePoints), known.sorted);
    is(compareCodePoints("ab", "ab"), 0);
    equal(codePoints("a𝒜"), [97, 0x1d49c]);
  });
});
