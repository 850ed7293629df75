// Answers as lm-evaluation-harness finds and compares them: test/rl/known/number_answers.py.
import { equal, is, ok } from "uvu/assert";
import { numberOf } from "../../../rl/environments/compare-answers.ts";
import { comparableNumber, extractAnswer, goldAnswer } from "../../../rl/environments/number-answers.ts";
import { describe } from "../../support.ts";
import { readKnown } from "../known/read.ts";

type Verdict = { answer: string | null; right: boolean };
type Row = { completion: string; gold: string; "strict-match": Verdict; "flexible-extract": Verdict };

describe("rl/environments/number-answers", (test) => {
  const rows = readKnown<Row[]>("number-answers.json");
  for (const extraction of ["strict-match", "flexible-extract"] as const)
    test(`${extraction}: ${rows.length} known cases`, () => {
      const rights = rows.map((row) => row[extraction].right);
      ok(rights.includes(true) && rights.includes(false));
      for (const { completion, gold, [extraction]: known } of rows) {
        const found = extractAnswer(completion, extraction);
        is(found, known.answer, completion);
        const right = comparableNumber(goldAnswer(gold) ?? "");
        is(found !== null && comparableNumber(found) === right, known.right, `${completion} for ${gold}`);
      }
    });

  test("boxed: the last box that closes, whatever it holds and whatever follows", () => {
    const boxed = (text: string) => extractAnswer(text, "boxed");
    equal(
      [
        "\\boxed{72}",
        "\\boxed{1} then \\boxed{\\text{about }\\$1,234.} of 9",
        "\\boxed{\\frac{1}{2}}",
        "\\boxed{5} and \\boxed{6",
        "72",
        "\\boxed{none}",
        "",
      ].map(boxed),
      ["72", "$1,234.", "2", "5", null, null, null],
    );
  });

  test("numbers are equal by value, unlike texts", () => {
    equal(["1,234.", "$18.00", "€ 5", "+3", "-.5", "1e3", " 7 "].map(numberOf), [1234, 18, 5, 3, -0.5, 1000, 7]);
    for (const none of ["", "x", "1 2", "1/2", "--3", "Infinity", "0x10"]) ok(Number.isNaN(numberOf(none)), none);
  });
});
