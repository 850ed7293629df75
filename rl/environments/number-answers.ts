// The answer in a completion to a question whose answer is a number, by the rules of the task gsm8k in EleutherAI's
// lm-evaluation-harness, so that scores can be compared. Its two filters have its names:
//
//   strict-match      what follows the first "#### ": (-?[0-9.,]+)
//   flexible-extract  the last number of the text: (-?[$0-9.,]{2,})|(-?[0-9]+)
//
// and one more:
//
//   boxed             the last number in the last \boxed{…}
//
// Two answers are equal if the texts are, after "$", "," and a full stop at the end are removed: 1,234. equals $1234, but
// 18.00 does not equal 18.

export const answerExtractions = ["flexible-extract", "strict-match", "boxed"] as const;
export type AnswerExtraction = (typeof answerExtractions)[number];

/** The answer of a completion, as it is written there; null if there is none in this form. */
export function extractAnswer(completion: string, extraction: AnswerExtraction): string | null {
  switch (extraction) {
    case "strict-match":
      return /#### (-?[0-9.,]+)/.exec(completion)?.[1] ?? null;
    case "flexible-extract":
      return lastNumber(completion);
    case "boxed": {
      const content = lastBoxed(completion);
      return content === null ? null : lastNumber(content);
    }
    default:
      return extraction satisfies never;
  }
}

const lastNumber = (text: string): string | null => text.match(/-?[$0-9.,]{2,}|-?[0-9]+/g)?.at(-1) ?? null;

/** The content of the last \boxed{…} whose braces close; null if there is none. */
function lastBoxed(text: string): string | null {
  for (let start = text.lastIndexOf(boxed); start >= 0; start = text.lastIndexOf(boxed, start - 1)) {
    const from = start + boxed.length;
    let depth = 1;
    for (let at = from; at < text.length; at++) {
      if (text[at] === "{") depth++;
      else if (text[at] === "}" && --depth === 0) return text.slice(from, at);
    }
    if (start === 0) break;
  }
  return null;
}

const boxed = "\\boxed{";

/** The text that answers are compared by. */
export function comparableNumber(answer: string): string {
  return answer.replace(/[,$]/g, "").replace(/\.$/, "").trim();
}

/** The answer of a GSM8K solution, what follows its "#### "; null if it has none. */
export function goldAnswer(solution: string): string | null {
  const mark = solution.lastIndexOf("#### ");
  return mark < 0 ? null : solution.slice(mark + 5).trim();
}
