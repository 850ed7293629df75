// How an answer is compared with the right one, for a data set without code.
import { asError } from "../../engine/host/index.ts";
import type { Reward } from "./environment.ts";
import { comparableNumber } from "./number-answers.ts";
import type { Question } from "./question-answer.ts";

export const comparisons = ["exact", "contains", "number", "regex"] as const;

export interface AnswerComparison {
  readonly compare: (typeof comparisons)[number];
  readonly ignoreCase: boolean;
  /** Finds the answer in a completion; empty for the whole text. */
  readonly extract: string;
}

/** The first group of the last match, the whole match without groups; the whole text without an expression. */
export function answerIn(text: string, expression: string): string | null {
  if (expression === "") return text.trim();
  const match = [...text.matchAll(new RegExp(expression, "gmu"))].at(-1);
  return match === undefined ? null : (match[1] ?? match[0]).trim();
}

/** Problems with a setting that is a regular expression, in the form that a settings check returns. */
export function expressionProblems(setting: string, expression: string): string[] {
  try {
    new RegExp(expression, "gmu");
    return [];
  } catch (thrown) {
    return [
      `${setting}: expected a regular expression of JavaScript, got ${JSON.stringify(expression)}: ${asError(thrown).message}`,
    ];
  }
}

/** The number that a text is, without thousands commas, currency signs and a full stop at its end; NaN if it is none. */
export function numberOf(text: string): number {
  const written = comparableNumber(text.trim().replace(/[€£¥]/g, "")).replace(/^\+/, "");
  return /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(written) ? Number(written) : Number.NaN;
}

/** A right answer as the regular expression that it is. */
const expressionOf = (right: string, ignoreCase: boolean): RegExp => new RegExp(right, ignoreCase ? "iu" : "u");

/** Why a comparison with this right answer would say the same of every completion, or fail; null if it would not. */
export function answerProblem(
  { compare, ignoreCase }: Omit<AnswerComparison, "extract">,
  right: string,
): string | null {
  if (compare === "number" && Number.isNaN(numberOf(right)))
    return `expected a number with environment.dataset.compare number, got ${JSON.stringify(right.slice(0, 60))}: no answer could be right. ${otherwise}`;
  if (compare === "regex")
    try {
      expressionOf(right, ignoreCase);
    } catch (thrown) {
      return `expected a regular expression with environment.dataset.compare regex: ${asError(thrown).message}. ${otherwise}`;
    }
  if ((compare === "contains" || compare === "regex") && right === "")
    return `expected an answer, got an empty text: with environment.dataset.compare ${compare} every answer would be right. Remove the row, or compare "exact"`;
  return null;
}

const otherwise =
  "Correct the row, take the answer out of it with environment.dataset.extractAnswer, or compare otherwise";

/** The scorer: 1 if the answer is right, else 0. It tells of a form only if answers are extracted. */
export function judgeOf({
  compare,
  ignoreCase,
  extract,
}: AnswerComparison): (completion: string, question: Question) => Reward {
  const folded = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  const isRight = (given: string, right: string): boolean => {
    switch (compare) {
      case "exact":
        return folded(given) === folded(right);
      case "contains":
        return folded(given).includes(folded(right));
      case "number":
        return numberOf(given) === numberOf(right);
      case "regex":
        return expressionOf(right, ignoreCase).test(given);
      default:
        return compare satisfies never;
    }
  };
  return (completion, { answer }) => {
    const given = answerIn(completion, extract);
    const reward = given !== null && answer !== null && isRight(given, answer) ? 1 : 0;
    if (extract === "") return { reward };
    return { reward, parts: { turnScores: [reward], formatFailed: [given === null] } };
  };
}
