// GSM8K (Cobbe et al. 2021, arXiv 2110.14168): word problems of primary-school arithmetic. The reward is 1 if the number in
// the answer is right, else 0.
import { choice, FileError, text } from "../../engine/host/index.ts";
import { NotAtHandError } from "../../model/index.ts";
import { type OpenedData, openData } from "./data.ts";
import type { Environment, EnvironmentKind } from "./environment.ts";
import { answerExtractions, comparableNumber, extractAnswer, goldAnswer } from "./number-answers.ts";
import type { OpenContext } from "./open-context.ts";
import { type Question, questionAnswer } from "./question-answer.ts";
import { nameOfType } from "./rows.ts";

const settings = {
  data: text({
    default: "openai/gsm8k",
    changes: "free",
    isRecorded: true,
    meaning:
      "the training questions: a .parquet, .jsonl or .json file with the columns question and answer, or ORG/NAME or ORG/NAME@REVISION on the hub",
  }),
  dataSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of the training questions; others are refused; empty accepts any",
  }),
  config: text({ default: "main", meaning: "configuration of the data set on the hub: main, or socratic" }),
  split: text({ default: "train", meaning: "split of the data set on the hub that training uses" }),
  heldOut: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "the questions of evaluation and landscape, as data; empty: those of heldOutSplit if data is on the hub, else those of data",
  }),
  heldOutSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of the questions of evaluation and landscape; others are refused; empty accepts any",
  }),
  heldOutSplit: text({ default: "test", meaning: "split on the hub that evaluation and landscape use" }),
  extraction: choice({
    default: "flexible-extract",
    options: answerExtractions,
    meaning:
      "where an answer is looked for: flexible-extract, the last number; strict-match, after the first ####; boxed, in the last \\boxed{}",
  }),
  instruction: text({
    default: "",
    meaning: "text after the question, on a line of its own; empty: a request for the form of the extraction",
  }),
  systemPrompt: text({ default: "", meaning: "system message; empty: what the model's chat template has" }),
} as const;

const instructions = {
  "flexible-extract": 'Let\'s think step by step and output the final answer after "####".',
  "strict-match": 'Let\'s think step by step and output the final answer after "####".',
  boxed: "Let's think step by step and put the final answer within \\boxed{}.",
} as const;

const otherData = "Another data set can be used by --environment.name dataset.";

type Gsm8kValues = Parameters<(typeof gsm8kKind)["open"]>[0];

export const gsm8kKind = {
  name: "gsm8k",
  description:
    "GSM8K: the model solves a word problem in arithmetic. Reward: 1 if the number that it answers is right, else 0.",
  settings,
  async open(values, context: OpenContext): Promise<Environment> {
    const opened = await openBoth(values, context);
    if (opened === null) return questionAnswer({ ...standIn(values), score: () => 0 });
    const { training, heldOut, files } = opened;
    return questionAnswer({
      name: "gsm8k",
      source: training.source,
      files,
      training: questionsOf(training, values),
      heldOut: questionsOf(heldOut, values),
      isBounded: true,
      score: (completion, { answer }) => {
        const found = extractAnswer(completion, values.extraction);
        const reward =
          found !== null && answer !== null && comparableNumber(found) === comparableNumber(answer) ? 1 : 0;
        return { reward, parts: { turnScores: [reward], formatFailed: [found === null] } };
      },
    });
  },
} satisfies EnvironmentKind<typeof settings>;

interface BothParts {
  readonly training: OpenedData;
  readonly heldOut: OpenedData;
  readonly files: readonly OpenedData["file"][];
}

/** Null for a plan if the data set is not on this machine. */
async function openBoth(
  { data, dataSha256, config, split, heldOut, heldOutSha256, heldOutSplit }: Gsm8kValues,
  context: OpenContext,
): Promise<BothParts | null> {
  const common = { config, what: "questions", columns: ["question", "answer"], cure: otherData };
  try {
    const training = await openData({ ...common, setting: "data", data, sha256: dataSha256, split }, context);
    if (heldOut === "" && !training.isFromHub) return { training, heldOut: training, files: [training.file] };
    const evaluated = await openData(
      { ...common, setting: "heldOut", data: heldOut || data, sha256: heldOutSha256, split: heldOutSplit },
      context,
    );
    return { training, heldOut: evaluated, files: [training.file, evaluated.file] };
  } catch (thrown) {
    if (!(thrown instanceof NotAtHandError) || context.isDryRun !== true) throw thrown;
    context.progress?.line(
      `${data} is not on this machine: the plan uses made-up questions of usual length. The run itself will download it.`,
    );
    return null;
  }
}

/** Questions of the data set's mean length (235 characters, solutions of 290), all different. */
function standIn(values: Gsm8kValues) {
  const questions = Array.from({ length: 8000 }, (_, i): Question => {
    const worked = "So many and so many more make as many as that, which is added up here. ".repeat(4);
    return {
      ...framed(
        `Problem ${i}. ${"A farmer has some hens, and each of them lays an egg on most days. ".repeat(3)}`,
        values,
      ),
      answer: String(i),
      worked: { formatted: `${worked}\n#### ${i}`, bare: worked },
    };
  });
  return { name: "gsm8k", source: "made-up questions", files: [], training: questions, heldOut: questions };
}

function framed(question: string, { extraction, instruction, systemPrompt }: Gsm8kValues) {
  return {
    ...(systemPrompt !== "" && { systemPrompt }),
    prompt: `${question}\n${instruction || instructions[extraction]}`,
  };
}

function questionsOf({ rows }: OpenedData, values: Gsm8kValues): Question[] {
  return rows.map(({ where, value }) => {
    const row = new Map<string, unknown>(typeof value === "object" && value !== null ? Object.entries(value) : []);
    const [question, answer] = [row.get("question"), row.get("answer")];
    if (typeof question !== "string" || typeof answer !== "string")
      throw new FileError(
        `${where}: expected the texts "question" and "answer", got ${nameOfType(question)} and ${nameOfType(answer)}. ${otherData}`,
      );
    const gold = goldAnswer(answer);
    // What no rule of number-answers.ts takes for a number, no answer could equal.
    const found = gold === null ? null : extractAnswer(gold, "flexible-extract");
    if (gold === null || found === null || comparableNumber(found) !== comparableNumber(gold))
      throw new FileError(
        `${where}: expected an answer that ends in "#### NUMBER", got ${JSON.stringify(answer.slice(-40))}. ${otherData}`,
      );
    return { ...framed(question, values), answer: gold, worked: workedOf(answer, gold, values) };
  });
}

/** The data set's solution, without the calculator's annotations <<48/2=24>>. */
function workedOf(answer: string, gold: string, { extraction }: Gsm8kValues): { formatted: string; bare: string } {
  const steps = answer
    .slice(0, answer.lastIndexOf("####"))
    .replace(/<<[^>]*>>/g, "")
    .trim();
  const last = extraction === "boxed" ? `\\boxed{${gold}}` : `#### ${gold}`;
  return { formatted: `${steps}\n${last}`, bare: steps };
}
