// GSM8K and data sets by column names: from files and from a hub on this machine, what is right, worked answers for a warm
// start, and bad rows.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, not, ok } from "uvu/assert";
import { type Environment, episodeList, isWorked, openEnvironment, workedDialogue } from "../../../rl/index.ts";
import { name, startHub } from "../../model/hub-server.ts";
import { describe, throwsMessage } from "../../support.ts";
import { knownPath } from "../known/read.ts";

const folder = mkdtempSync(join(tmpdir(), "foothold-questions-"));
const write = (file: string, rows: readonly unknown[] | string): string => {
  const path = join(folder, file);
  writeFileSync(path, typeof rows === "string" ? rows : rows.map((row) => JSON.stringify(row)).join("\n"));
  return path;
};
const problem = (i: number) => ({
  question: `What is ${i} + ${i}?`,
  answer: `${i}+${i} = <<${i}+${i}=${2 * i}>>${2 * i}.\n#### ${2 * i}`,
});
const problems = Array.from({ length: 9 }, (_, i) => problem(i + 1));
const gsm8k = (settings: object, context = {}) => openEnvironment({ name: "gsm8k", gsm8k: settings }, context);
const dataset = (settings: object, context = {}) => openEnvironment({ name: "dataset", dataset: settings }, context);
const training = (environment: Environment, seed = 1) => [...environment.episodes(seed)];
const heldOut = (environment: Environment) => [...(environment.heldOutEpisodes?.(1) ?? [])];
const judged = (environment: Environment, prompt: string, completion: string) =>
  training(environment)
    .find((episode) => episode.prompt.startsWith(prompt))
    ?.score([completion]);

describe("rl/environments/question-answer", (test) => {
  test.after(() => rmSync(folder, { recursive: true, force: true }));

  test("GSM8K from a file: every question once, in an order of the seed; 1 for the right number, else 0", async () => {
    const environment = await gsm8k({ data: write("gsm8k.jsonl", problems) });
    const prompts = (seed: number) => training(environment, seed).map(({ prompt }) => prompt);
    equal(prompts(1), prompts(1));
    not.equal(prompts(1), prompts(2));
    equal(new Set(prompts(1)).size, 9);
    ok(prompts(1)[0].endsWith('\nLet\'s think step by step and output the final answer after "####".'));
    const verdict = (reward: number, failed: boolean) => ({
      reward,
      parts: { turnScores: [reward], formatFailed: [failed] },
    });
    equal(judged(environment, "What is 9 + 9?", "That is $18."), verdict(1, false));
    equal(judged(environment, "What is 9 + 9?", "#### 19"), verdict(0, false));
    equal(judged(environment, "What is 9 + 9?", "I do not know"), verdict(0, true));
    const strict = await gsm8k({
      data: join(folder, "gsm8k.jsonl"),
      extraction: "strict-match",
      systemPrompt: "Count.",
    });
    equal(judged(strict, "What is 9 + 9?", "That is 18."), verdict(0, true));
    is(training(strict)[0].systemPrompt, "Count.");
    const boxed = await gsm8k({ data: join(folder, "gsm8k.jsonl"), extraction: "boxed" });
    equal(judged(boxed, "What is 9 + 9?", "\\boxed{18}, not 19"), verdict(1, false));
    ok(training(boxed)[0].prompt.endsWith("within \\boxed{}."));
  });

  test("GSM8K from the hub: training on its train split, evaluation on its test split, both with their digests", async () => {
    const rows = (from: number, to: number) =>
      Buffer.from(
        problems
          .slice(from, to)
          .map((row) => JSON.stringify(row))
          .join("\n"),
      );
    const server = await startHub(
      new Map([
        ["main/train-00000-of-00003.jsonl", rows(0, 4)],
        ["main/train-00001-of-00003.jsonl", Buffer.from("\n")],
        ["main/train-00002-of-00003.jsonl", rows(4, 6)],
        ["none/train.jsonl", Buffer.from("")],
        ["many/train.jsonl", Buffer.from(`${JSON.stringify(problem(1))}\n`.repeat(200_000))],
        ["many/test.jsonl", rows(6, 9)],
        ["none/test.jsonl", rows(6, 9)],
        ["main/test.jsonl", rows(6, 9)],
      ]),
      "dataset",
    );
    try {
      const hub = { environment: { HF_HOME: join(folder, "hub"), HF_ENDPOINT: server.endpoint }, retryMs: 5 };
      const planned = await gsm8k({ data: name }, { hub, isDryRun: true });
      is(server.seen.length, 0, "a plan downloads nothing");
      ok(training(planned).length > 1000 && isWorked(planned), "and works with made-up questions");
      const environment = await gsm8k({ data: name }, { hub });
      equal([training(environment).length, heldOut(environment).length], [6, 3], "an empty shard is no fault");
      is(
        training(await gsm8k({ data: name, config: "many" }, { hub })).length,
        200_000,
        "more rows than a call's arguments",
      );
      await throwsMessage(
        () => gsm8k({ data: name, config: "none" }, { hub }),
        "org/small, commit",
        "expected rows of questions, got none",
      );
      equal(
        episodeList(environment, 1)
          .slice(0, 3)
          .map(({ prompt }) => prompt),
        heldOut(environment).map(({ prompt }) => prompt),
        "evaluation and landscape use the test split",
      );
      equal(
        environment.files?.map(({ setting }) => setting),
        ["data", "heldOut"],
      );
      const [{ sha256 }] = environment.files ?? [];
      await gsm8k({ data: name, dataSha256: sha256 }, { hub });
      await throwsMessage(
        () => gsm8k({ data: name, dataSha256: "0".repeat(64) }, { hub }),
        "org/small, commit",
        "not the file of the settings",
      );
    } finally {
      await server.close();
    }
  });

  test("Alphabet-sort's names from the hub, in Parquet", async () => {
    const content = readFileSync(knownPath("names-snappy.parquet"));
    const server = await startHub(new Map([["data/train-00000-of-00001.parquet", content]]), "dataset");
    try {
      const hub = { environment: { HF_HOME: join(folder, "names"), HF_ENDPOINT: server.endpoint }, retryMs: 5 };
      const sort = (names: string) =>
        openEnvironment({ name: "alphabet-sort", "alphabet-sort": { names, maxNamesPerTurn: 1 } }, { hub });
      const prompts = (environment: Environment) => training(environment).map(({ prompt }) => prompt);
      const found = prompts(await sort(name));
      ok(found.length > 1);
      equal(found, prompts(await sort(knownPath("names-snappy.parquet"))), "as from the file");
    } finally {
      await server.close();
    }
  });

  test("the answers that a data set knows teach: with the form and without, after the system message", async () => {
    const environment = await gsm8k({ data: join(folder, "gsm8k.jsonl"), systemPrompt: "Count." });
    if (!isWorked(environment)) throw new Error("expected worked answers");
    const [system, user, assistant] = workedDialogue(environment, { seed: 1, dropTags: 0 }, 0);
    equal(system, { role: "system", content: "Count." });
    const number = /^What is (\d+)/.exec(user.content)?.[1];
    equal(assistant.content, `${number}+${number} = ${2 * Number(number)}.\n#### ${2 * Number(number)}`);
    equal(judged(environment, user.content, assistant.content), {
      reward: 1,
      parts: { turnScores: [1], formatFailed: [false] },
    });
    const bare = workedDialogue(environment, { seed: 1, dropTags: 1 }, 0)[2].content;
    ok(!bare.includes("####") && assistant.content.startsWith(bare));
    const plain = await dataset({
      data: write("qa.jsonl", [{ prompt: "2+2?", answer: "= 4" }]),
      extractAnswer: "\\d+",
    });
    if (!isWorked(plain)) throw new Error("expected worked answers");
    equal(plain.draw({ random: () => 0, randint: () => 0, choice: ([one]) => one, shuffle: () => {} }, 0).workedTurns, [
      { user: "2+2?", formatted: "= 4", bare: "4" },
    ]);
  });

  test("a data set by its columns: how answers are compared", async () => {
    const data = write("capitals.jsonl", [
      { q: "Capital of France?", a: "Paris" },
      { q: "What is 1000 + 234?", a: 1234 },
    ]);
    const columns = { data, promptColumn: "q", answerColumn: "a" };
    const rewards = async (settings: object, prompt: string, completions: string[]) => {
      const environment = await dataset({ ...columns, ...settings });
      return completions.map((completion) => {
        const score = judged(environment, prompt, completion);
        return typeof score === "object" && "reward" in score ? score.reward : score;
      });
    };
    const [paris, sum] = ["Capital", "What"];
    equal(await rewards({}, paris, ["Paris", " Paris\n", "paris", "It is Paris"]), [1, 1, 0, 0]);
    equal(await rewards({ ignoreCase: true }, paris, ["PARIS", "Rome"]), [1, 0]);
    equal(await rewards({ compare: "contains" }, paris, ["It is Paris.", "It is paris."]), [1, 0]);
    const numbers = { data: write("sums.jsonl", [{ q: "What is 1000 + 234?", a: 1234 }]), compare: "number" };
    equal(await rewards(numbers, sum, ["$1,234.00", "1234", "1235", "about 1234"]), [1, 1, 0, 0]);
    equal(await rewards({ compare: "regex" }, sum, ["x1234", "12345", "12"]), [1, 1, 0]);
    const tagged = { extract: "<answer>(.*?)</answer>" };
    equal(await rewards(tagged, paris, ["<answer>Rome</answer> no, <answer>Paris</answer>", "Paris"]), [1, 0]);
    const environment = await dataset({ ...columns, ...tagged });
    equal(judged(environment, paris, "Paris"), { reward: 0, parts: { turnScores: [0], formatFailed: [true] } });
    equal(judged(await dataset(columns), paris, "Rome"), { reward: 0 }, "no form is asked for, so none is told");
  });

  test("prompts may be the messages of a chat; GSM8K is a data set like others", async () => {
    const chat = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "2+2?" },
    ];
    const [first] = training(
      await dataset({ data: write("chat.jsonl", [{ prompt: chat, answer: "4" }]), instruction: "A number." }),
    );
    equal([first.systemPrompt, first.prompt], ["Be brief.", "2+2?\nA number."]);
    const environment = await dataset({
      ...{ data: join(folder, "gsm8k.jsonl"), promptColumn: "question", compare: "number" },
      ...{ extract: "#### (.*)", extractAnswer: "#### (.*)" },
    });
    equal(judged(environment, "What is 9 + 9?", "#### 18."), {
      reward: 1,
      parts: { turnScores: [1], formatFailed: [false] },
    });
  });

  test("numbers of a Parquet file are answers as they are written there, or refused", async () => {
    const path = knownPath("questions.parquet");
    const answers = async (answerColumn: string, settings: object = {}) => {
      const environment = await dataset({ data: path, promptColumn: "question", answerColumn, ...settings });
      const [...episodes] = environment.episodes(1);
      return episodes
        .sort((a, b) => (a.prompt < b.prompt ? -1 : 1))
        .map((episode) => JSON.stringify("workedTurns" in episode && episode.workedTurns));
    };
    const asWritten = (texts: readonly string[]) =>
      texts.map((text, i) => JSON.stringify([{ user: `${"abcd"[i]}?`, formatted: text, bare: text }]));
    // As doubles from the stored whole numbers, 0.57 would be 0.5700000000000001, which no answer equals.
    equal(await answers("cents"), asWritten(["0.57", "1234.50", "-0.07", "9999999999999.99"]));
    equal(await answers("single"), asWritten(["0.1", "1.5", "-2e-7", "16777216"]));
    equal(await answers("whole"), asWritten(["9007199254740993", "1", "-1", "0"]));
    equal(
      judged(
        await dataset({ data: path, promptColumn: "question", answerColumn: "cents", compare: "number" }),
        "a",
        "$0.57",
      ),
      {
        reward: 1,
      },
    );
    await throwsMessage(
      () => answers("long"),
      "questions.parquet: row 1: long: a decimal number of more than 15 digits",
      "Write the column as text.",
    );
    await throwsMessage(() => answers("maybe"), "row 2: maybe: expected a text or a number, got NaN");
    await throwsMessage(() => answers("day"), "row 1: day: expected a text or a number, got a date");
    await throwsMessage(
      () => answers("Cents"),
      'expected a column "Cents", got question, cents, long, single',
      "environment.dataset.answerColumn",
    );
  });

  test("a field of an object column is named as COLUMN.FIELD; a column with a dot in its name comes first", async () => {
    const path = knownPath("questions.parquet");
    const parquet = await dataset({ data: path, promptColumn: "chat", answerColumn: "reward_model.ground_truth" });
    equal(judged(parquet, "d", "7"), { reward: 1 });
    const rows = [{ "a.b": "1", a: { b: "2", c: { d: 3 } }, prompt: "?" }];
    const lines = (answerColumn: string) => dataset({ data: write("nested.jsonl", rows), answerColumn });
    equal(judged(await lines("a.b"), "?", "1"), { reward: 1 });
    equal(judged(await lines("a.c.d"), "?", "3"), { reward: 1 });
    await throwsMessage(() => lines("a.x"), 'line 1: expected a column "a.x", got a.b, a, prompt');
    await throwsMessage(
      () => lines("a.c"),
      "a.c: expected a text or a number, got an object with d. Name a field of it as",
    );
  });

  test("what has no effect beside a scorer is said, and refuses no answer", async () => {
    const lines: string[] = [];
    const quiet = { advance: () => {}, done: () => {}, phase: () => quiet };
    const progress = { line: (text: string) => lines.push(text), phase: () => quiet, close: () => {} };
    const data = write("words.jsonl", [{ prompt: "?", answer: "forty-two" }]);
    const scorer = { data, scorer: "cat", compare: "number" };
    await dataset({ ...scorer, extract: "<a>(.*)</a>", ignoreCase: true }, { progress });
    equal(lines, [
      "environment.dataset: extract, compare number, ignoreCase: without effect, since the scorer gets the whole completion and decides.",
    ]);
    await dataset({ data, scorer: "cat" }, { progress });
    is(lines.length, 1);
  });

  test("what cannot be used is refused with the row and column", async () => {
    const one = (row: unknown, settings = {}) => dataset({ data: write("bad.jsonl", [row]), ...settings });
    await throwsMessage(
      () => one({ question: "?", answer: "4" }),
      'bad.jsonl: line 1: expected a column "prompt", got question, answer',
      "environment.dataset.promptColumn",
    );
    await throwsMessage(
      () => one({ prompt: 4, answer: "4" }),
      "line 1: prompt: expected a text, or a list",
      "a number",
    );
    await throwsMessage(() => one({ prompt: [{ role: "assistant", content: "x" }], answer: "4" }), "line 1: prompt");
    await throwsMessage(
      () => one({ prompt: "?", answer: [4] }),
      "line 1: answer: expected a text or a number, got a list",
    );
    await throwsMessage(
      () => dataset({ data: write("bad.jsonl", '{"prompt": "?", "answer": 9007199254740993}') }),
      "line 1: answer: expected a text or a number, got about 9007199254740992: a number beyond 2^53 is rounded",
      "Write it as a text",
    );
    await throwsMessage(() => one({ prompt: "?", answer: null }), "line 1: answer", "got null. Remove the row");
    await throwsMessage(
      () => one({ prompt: "?", answer: "four" }, { extractAnswer: "\\d+" }),
      "environment.dataset.extractAnswer matches",
      '"four"',
    );
    // No answer could be right, or every one would be.
    await throwsMessage(
      () => one({ prompt: "?", answer: "forty-two" }, { compare: "number" }),
      'line 1: answer: expected a number with environment.dataset.compare number, got "forty-two"',
      "environment.dataset.extractAnswer",
    );
    await throwsMessage(
      () => one({ prompt: "?", answer: "[4" }, { compare: "regex" }),
      "line 1: answer: expected a regular expression with environment.dataset.compare regex: Invalid regular expression",
    );
    for (const compare of ["contains", "regex"])
      await throwsMessage(
        () => one({ prompt: "?", answer: "" }, { compare }),
        `line 1: answer: expected an answer, got an empty text: with environment.dataset.compare ${compare} every answer would be right`,
      );
    await one({ prompt: "?", answer: "" });
    await throwsMessage(() => one(["?"]), "line 1: expected an object with the columns as keys, got a list");
    await throwsMessage(
      () => dataset({}),
      "environment.dataset.data: expected a file or a data set of the hub, got none",
    );
    await throwsMessage(() => one({}, { extract: "(" }), "environment.dataset.extract: expected a regular expression");
    await throwsMessage(
      () => one({}, { answerColumn: "" }),
      "environment.dataset.answerColumn: expected a column, or a scorer",
    );
    await throwsMessage(
      () => dataset({ data: "no such file" }),
      "data: expected a file of questions",
      '"no such file"',
    );
    await throwsMessage(
      () => gsm8k({ data: write("g.jsonl", [{ question: "?", answer: "4" }]) }),
      "line 1",
      'expected an answer that ends in "#### NUMBER"',
    );
    for (const gold of ["#### forty", "#### ", "#### 4 apples", "#### 4\nor so"])
      await throwsMessage(
        () => gsm8k({ data: write("g.jsonl", [{ question: "?", answer: gold }]) }),
        'line 1: expected an answer that ends in "#### NUMBER"',
      );
    for (const gold of ["#### 1,234", "#### -5", "#### $2.50", "#### 7."])
      is(training(await gsm8k({ data: write("g.jsonl", [{ question: "?", answer: gold }]) })).length, 1);
    await throwsMessage(
      () => gsm8k({ data: write("g.jsonl", [{ q: "?" }]) }),
      'expected the texts "question" and "answer"',
      "--environment.name dataset",
    );
  });
});
