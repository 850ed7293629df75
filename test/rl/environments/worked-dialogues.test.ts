import { equal, is, ok } from "uvu/assert";
import { alphabetSort } from "../../../rl/environments/alphabet-sort.ts";
import { generatedNames } from "../../../rl/environments/names.ts";
import { workedDialogue } from "../../../rl/environments/worked-dialogues.ts";
import { describe } from "../../support.ts";

describe("rl/environments/worked-dialogues", (test) => {
  const environment = alphabetSort(generatedNames(), { minTurns: 2, maxTurns: 2, maxNamesPerTurn: 3 });
  const make = (index: number, seed = 7, dropTags = 0.8) => workedDialogue(environment, { seed, dropTags }, index);
  const answers = (index: number, dropTags: number) =>
    make(index, 7, dropTags)
      .filter(({ role }) => role === "assistant")
      .map(({ content }) => content);
  const isBare = (answer: string) => !answer.startsWith("<");

  test("user and assistant in turn, two turns", () =>
    equal(
      make(0).map(({ role }) => role),
      ["user", "assistant", "user", "assistant"],
    ));
  test("dialogue k is the same whatever came before it", () => {
    const forwards = [0, 1, 2, 3].map((k) => make(k));
    const backwards = [3, 2, 1, 0].map((k) => make(k)).reverse();
    equal(forwards, backwards);
    ok(JSON.stringify(make(0, 8)) !== JSON.stringify(make(0, 7)));
  });
  test("dialogues do not repeat", () => {
    const dialogues = Array.from({ length: 500 }, (_, k) => JSON.stringify(make(k)));
    is(new Set(dialogues).size, dialogues.length);
  });
  test("dropTags changes the form of answers and nothing else", () => {
    for (let k = 0; k < 20; k++) {
      const formatted = make(k, 7, 0);
      const bare = make(k, 7, 1);
      const users = (messages: typeof bare) => messages.filter(({ role }) => role === "user");
      equal(users(formatted), users(bare));
      equal(
        answers(k, 0).map((answer) => answer.split("\n").slice(1, -1).join("\n")),
        answers(k, 1),
      );
      ok(
        answers(k, 0)[0].startsWith("<alphabetical_sorted>\n") && answers(k, 0)[0].endsWith("\n</alphabetical_sorted>"),
      );
      ok(answers(k, 0)[1].startsWith("<combined_alphabetical_sorted>\n"));
      ok(!answers(k, 1).some((answer) => answer.includes("<")));
    }
  });
  test("tags are left off with the given probability, in each turn on its own", () => {
    // 1,000 draws at 0.8 deviate by 12.6, at 0.64 by 15.2: five of those.
    const counts = { first: 0, second: 0, both: 0 };
    for (let k = 0; k < 1000; k++) {
      const [first, second] = answers(k, 0.8).map(isBare);
      counts.first += Number(first);
      counts.second += Number(second);
      counts.both += Number(first && second);
    }
    ok(Math.abs(counts.first - 800) < 65, `first turn bare ${counts.first} times`);
    ok(Math.abs(counts.second - 800) < 65, `second turn bare ${counts.second} times`);
    ok(Math.abs(counts.both - 640) < 80, `both bare ${counts.both} times`);
  });
});
