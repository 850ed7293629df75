// An environment from a data set, without code: the columns of the prompt and of the answer, and how answers are compared;
// or a program that scores.
import { boolean, choice, text } from "../../engine/host/index.ts";
import { comparisons, expressionProblems, judgeOf } from "./compare-answers.ts";
import { type OpenedData, openData } from "./data.ts";
import { questionsOf } from "./dataset-rows.ts";
import type { Environment, EnvironmentKind } from "./environment.ts";
import type { OpenContext } from "./open-context.ts";
import { questionAnswer } from "./question-answer.ts";
import { ScorerProcess } from "./scorer-process.ts";

const settings = {
  data: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "the rows of training: a .parquet, .jsonl or .json file, or ORG/NAME or ORG/NAME@REVISION on the hub",
  }),
  dataSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of data; others are refused; empty accepts any",
  }),
  config: text({ default: "default", meaning: "configuration (subset) of the data set on the hub" }),
  split: text({ default: "train", meaning: "split of the data set on the hub that training uses" }),
  heldOut: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "the rows of evaluation and landscape, as data; empty: those of data, or of its heldOutSplit",
  }),
  heldOutSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of heldOut; others are refused; empty accepts any",
  }),
  heldOutSplit: text({
    default: "",
    meaning: "split on the hub that evaluation and landscape use, such as test; empty: the one of training",
  }),
  promptColumn: text({
    default: "prompt",
    meaning:
      "column of the user's message: a text, or a list of messages with role and content, the last one the user's; COLUMN.FIELD for a field of an object",
  }),
  answerColumn: text({
    default: "answer",
    meaning:
      "column of the right answer, a text or a number, or COLUMN.FIELD (reward_model.ground_truth); empty for none, which needs scorer",
  }),
  instruction: text({ default: "", meaning: "text after each prompt, on a line of its own; empty for none" }),
  systemPrompt: text({ default: "", meaning: "system message; empty: the one of the prompt column or chat template" }),
  compare: choice({
    default: "exact",
    options: comparisons,
    meaning:
      "when an answer is right: exact, the same text; contains, the right answer is in it; number, the same number; regex, the right answer is a regular expression that matches",
  }),
  ignoreCase: boolean({ default: false, meaning: "compare without regard to upper and lower case" }),
  extract: text({
    default: "",
    meaning:
      "regular expression that finds the answer in a completion: the first group of its last match; without a match the reward is 0; empty: the whole completion",
  }),
  extractAnswer: text({
    default: "",
    meaning: "the same for the right answer in its column, such as '#### (.*)' for GSM8K; empty: the whole text",
  }),
  scorer: text({
    default: "",
    meaning:
      "a command that scores, in any language: JSON lines over standard input and output (docs/extending/environment.md); empty for none",
  }),
} as const;

export const datasetKind = {
  name: "dataset",
  description: "Questions of a data set, one answer each, compared with the right one or scored by a program.",
  settings,
  check: ({ data, answerColumn, scorer, extract, extractAnswer, promptColumn }) => [
    ...(data === "" ? ["data: expected a file or a data set of the hub, got none"] : []),
    ...(promptColumn === "" ? ["promptColumn: expected the name of a column, got none"] : []),
    ...(answerColumn === "" && scorer === "" ? ["answerColumn: expected a column, or a scorer that needs none"] : []),
    ...expressionProblems("extract", extract),
    ...expressionProblems("extractAnswer", extractAnswer),
  ],
  async open(values, context: OpenContext): Promise<Environment> {
    const { scorer } = values;
    const parts = await openParts(values, context);
    const comparison = scorer === "" ? values : null;
    const idle = scorer === "" ? [] : withoutEffect(values);
    if (idle.length > 0)
      context.progress?.line(
        `environment.dataset: ${idle.join(", ")}: without effect, since the scorer gets the whole completion and decides.`,
      );
    const common = {
      name: "dataset",
      source: parts.training.source,
      files: parts.files,
      training: questionsOf(parts.training, values, comparison),
      heldOut: questionsOf(parts.heldOut, values, comparison),
    };
    if (scorer === "") return questionAnswer({ ...common, score: judgeOf(values) });
    const process = new ScorerProcess(scorer);
    return questionAnswer({
      ...common,
      scoresOutside: true,
      score: (completion, { systemPrompt, prompt, answer }, signal) =>
        process.score({ systemPrompt: systemPrompt ?? null, prompt, completion, answer }, signal),
    });
  },
} satisfies EnvironmentKind<typeof settings>;

export type DatasetValues = Parameters<(typeof datasetKind)["open"]>[0];

/** The settings that are given beside a scorer, and that only a comparison reads. */
function withoutEffect({ extract, compare, ignoreCase }: DatasetValues): string[] {
  return [
    ...(extract === "" ? [] : ["extract"]),
    ...(compare === "exact" ? [] : [`compare ${compare}`]),
    ...(ignoreCase ? ["ignoreCase"] : []),
  ];
}

async function openParts(
  values: DatasetValues,
  context: OpenContext,
): Promise<{ training: OpenedData; heldOut: OpenedData; files: OpenedData["file"][] }> {
  const { data, dataSha256, config, split, heldOut, heldOutSha256, heldOutSplit, promptColumn, answerColumn } = values;
  const columns = [promptColumn, ...(answerColumn === "" ? [] : [answerColumn])];
  const cure = "Name them by environment.dataset.promptColumn and environment.dataset.answerColumn.";
  const common = { config, what: "questions", columns, cure };
  const training = await openData({ ...common, setting: "data", data, sha256: dataSha256, split }, context);
  if (heldOut === "" && (!training.isFromHub || heldOutSplit === ""))
    return { training, heldOut: training, files: [training.file] };
  const others = await openData(
    {
      ...{ ...common, setting: "heldOut", data: heldOut || data, sha256: heldOutSha256 },
      split: heldOutSplit || split,
    },
    context,
  );
  return { training, heldOut: others, files: [training.file, others.file] };
}
