// docs/examples/names.ts, loaded as a user's module in a process of its own: its questions, and the scores of answers.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { describe } from "../../support.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Prints the first questions of a seed, each with reward and format flag of some answers; $0, $1, … are its names in order. */
const script = `
  const { loadEnvironmentModule, openEnvironment } = await import("./rl/index.ts");
  const [settings, count, answers] = JSON.parse(process.argv[1]);
  await loadEnvironmentModule("docs/examples/names.ts", "");
  const { episodes } = await openEnvironment({ name: "names", names: settings });
  const found = [];
  for (const { prompt, score } of episodes(7)) {
    const [ask, given] = prompt.split(/: (.*)/).map((part, i) => (i === 0 ? part : part.split(", ")));
    const scoreOf = (answer) => score([answer.replace(/\\$(\\d)/g, (_, i) => given[i])]);
    found.push({ ask, given, scores: answers.map((one) => [scoreOf(one).reward, scoreOf(one).parts.formatFailed[0]]) });
    if (found.length === count) break;
  }
  process.stdout.write(JSON.stringify(found));
`;

interface Question {
  ask: string;
  given: string[];
  /** Reward, and whether the format is missing, of each answer. */
  scores: [number, boolean][];
}

function questions(settings: { task?: string; count?: number }, count: number, answers: readonly string[]): Question[] {
  const argv = ["--input-type=module", "--eval", script, JSON.stringify([settings, count, answers])];
  return JSON.parse(execFileSync(process.execPath, argv, { cwd: root, encoding: "utf8" }));
}

describe("rl/environments/names-example", (test) => {
  test("number: the numbered list earns 1; other words in its shape keep the format; all else loses it", () => {
    const right = ["1. $0\n2. $1\n3. $2", " 1. $0\n2. $1\n3. $2.\n"];
    const formed = ["1. $1\n2. $0\n3. $2", "1. Nobody\n2. $1\n3. $2"];
    const other = [
      "1. $0\n2. $1",
      "1) $0\n2) $1\n3) $2",
      "$0, $1, $2",
      "1. $0\n2. $1\n3. $2\n4. $0",
      "Here: 1. $0",
      "",
    ];
    const found = questions({}, 40, [...right, ...formed, ...other]);
    assert.ok(new Set(found.map(({ given }) => given.join())).size > 35, "too few different questions");
    for (const { ask, given, scores } of found) {
      assert.is(ask, "Write as a numbered list");
      assert.is(new Set(given).size, 3);
      const expected = [...right.map(() => [1, false]), ...formed.map(() => [0, false]), ...other.map(() => [0, true])];
      assert.equal(scores, expected, given.join());
    }
  });

  test("sort: of the two orders the alphabet's earns 1", () => {
    const found = questions({ task: "sort", count: 2 }, 40, ["$0, $1", "$1, $0", "$0", "$0 and $1"]);
    const inOrder = found.filter(({ given: [a, b] }) => a < b).length;
    assert.ok(inOrder > 10 && inOrder < 30, `${inOrder} of 40 questions are in order already`);
    for (const { ask, given, scores } of found) {
      assert.is(ask, "Sort these names");
      const isSorted = given[0] < given[1];
      const expected = [
        [isSorted ? 1 : 0, false],
        [isSorted ? 0 : 1, false],
        [0, true],
        [0, true],
      ];
      assert.equal(scores, expected, given.join());
    }
  });
});
