import { is } from "uvu/assert";
import { ratio } from "../../../../rl/environments/python/difflib.ts";
import { describe } from "../../../support.ts";
import { readKnown } from "../../known/read.ts";

describe("rl/environments/python/difflib", (test) => {
  // CPython's own answers: test/rl/known/python.py. The quotient of two integers has one nearest double: equal, not close.
  const { ratios } = readKnown<{ ratios: [string, string, number][] }>("python.json");
  const isLong = (text: string) => [...text].length >= 200;
  for (const [kind, belongs] of [
    ["short truths", (b: string) => !isLong(b)],
    ["truths of 200 characters and more, where autojunk acts", isLong],
  ] as const) {
    const pairs = ratios.filter(([, b]) => belongs(b));
    test(`${pairs.length} ratios of CPython: ${kind}`, () => {
      is(pairs.length > 10, true);
      for (const [a, b, expected] of pairs)
        is(ratio(a, b), expected, `ratio(${JSON.stringify(a)}, ${JSON.stringify(b)})`);
    });
  }

  test("autojunk begins at 200 characters of the truth, and looks at the truth alone", () => {
    // One letter over and over is popular at 200: only the extension from an empty block at the start matches it.
    is(ratio(`b${"a".repeat(199)}`, "a".repeat(199)) > 0.99, true);
    is(ratio(`b${"a".repeat(199)}`, "a".repeat(200)), 0);
    is(ratio("a".repeat(500), "a".repeat(199)), (2 * 199) / 699);
  });
});
