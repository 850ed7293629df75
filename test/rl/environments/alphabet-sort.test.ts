import { equal, is, ok } from "uvu/assert";
import {
  type AlphabetSortOptions,
  alphabetSort,
  alphabetSortDefaults,
  alphabetSortSeed,
} from "../../../rl/environments/alphabet-sort.ts";
import { type ChatMessage, EpisodeList } from "../../../rl/environments/environment.ts";
import { generatedNames, listedNames } from "../../../rl/environments/names.ts";
import { ratio } from "../../../rl/environments/python/difflib.ts";
import { PythonRandom } from "../../../rl/environments/python/random.ts";
import { assertKnown, describe, readFixture, throwsMessage } from "../../support.ts";

interface FixtureCase {
  args: {
    min_turns?: number;
    max_turns?: number;
    min_names_per_turn?: number;
    max_names_per_turn?: number;
    similarity_power?: number;
    power_per_turn?: boolean;
    seed?: number;
  };
  rows: string[][];
  episodes: {
    prompt: string;
    followUps: string[];
    groundTruths: string[][];
    sortByFirst: boolean;
    scored: { completions: string[]; reward: number }[];
  }[];
}

function optionsOf({ args }: FixtureCase): AlphabetSortOptions {
  const d = alphabetSortDefaults;
  return {
    minTurns: args.min_turns ?? d.minTurns,
    maxTurns: args.max_turns ?? d.maxTurns,
    minNamesPerTurn: args.min_names_per_turn ?? d.minNamesPerTurn,
    maxNamesPerTurn: args.max_names_per_turn ?? d.maxNamesPerTurn,
    similarityPower: args.similarity_power ?? d.similarityPower,
    powerPerTurn: args.power_per_turn ?? d.powerPerTurn,
  };
}

describe("rl/environments/alphabet-sort", (test) => {
  const cases = readFixture<FixtureCase[]>("alphabet-sort.json");
  for (const [number, fixture] of cases.entries()) {
    const name = `case ${number + 1}: ${JSON.stringify(fixture.args)}`;
    const environment = alphabetSort(listedNames(fixture.rows, name), optionsOf(fixture));
    const episodes = [...environment.episodes(fixture.args.seed ?? alphabetSortSeed)];
    test(`the original's episodes, ${name}`, () => {
      equal(
        episodes.map(({ prompt, followUps, groundTruths, sortByFirst }) => ({
          prompt,
          followUps,
          groundTruths,
          sortByFirst,
        })),
        fixture.episodes.map(({ prompt, followUps, groundTruths, sortByFirst }) => ({
          prompt,
          followUps,
          groundTruths,
          sortByFirst,
        })),
      );
      equal(
        episodes.map(({ index, turns }) => [index, turns]),
        fixture.episodes.map(({ groundTruths }, i) => [i, groundTruths.length]),
      );
    });
    test(`the original's rewards, ${name}`, () => {
      const scored = fixture.episodes.flatMap((episode, i) => episode.scored.map((entry) => ({ ...entry, i })));
      ok(scored.length > 0);
      assertKnown(
        "alphabet-sort.json",
        "reward",
        "host",
        scored.map(({ completions, i }) => episodes[i].score(completions).reward),
        scored.map(({ reward }) => reward),
        { absolute: 1e-12 },
        name,
      );
    });
    test(`worked answers earn the full reward, bare ones nothing, ${name}`, () => {
      // A name of spaces alone leaves an empty line, which no answer can reproduce.
      for (const episode of episodes.filter(({ groundTruths }) => groundTruths.flat().every((line) => line !== ""))) {
        equal(
          episode.workedTurns.map(({ user }) => user),
          [episode.prompt, ...episode.followUps],
        );
        const right = episode.score(episode.workedTurns.map(({ formatted }) => formatted));
        is(right.reward, 1);
        equal(
          right.parts.turnScores,
          episode.groundTruths.map(() => 1),
        );
        equal(
          right.parts.formatFailed,
          episode.groundTruths.map(() => false),
        );
        const bare = episode.score(episode.workedTurns.map((turn) => turn.bare));
        is(bare.reward, 0);
        equal(
          bare.parts.formatFailed,
          episode.groundTruths.map(() => true),
        );
      }
    });
    test(`user turns follow answers, ${name}`, () => {
      for (const episode of episodes) {
        const messages: ChatMessage[] = [{ role: "user", content: episode.prompt }];
        const asked: string[] = [];
        for (;;) {
          messages.push({ role: "assistant", content: "no idea" });
          const next = episode.nextUserTurn(messages);
          if (next === null) break;
          asked.push(next);
          messages.push({ role: "user", content: next });
        }
        equal(asked, episode.followUps);
      }
    });
  }

  // Scoring by hand: one turn, two names, power 1, so that the reward is the ratio itself.
  const [single] = alphabetSort(listedNames([["Ada Byron", "Alan Turing"]], "two names"), {
    minTurns: 1,
    maxTurns: 1,
    minNamesPerTurn: 2,
    maxNamesPerTurn: 2,
    similarityPower: 1,
  }).episodes(7);
  const wrap = (...lines: string[]) => `<alphabetical_sorted>${lines.join("\n")}</alphabetical_sorted>`;
  const good = wrap(...single.groundTruths[0]);
  const swapped = wrap(...[...single.groundTruths[0]].reverse());
  for (const [what, answer, reward, failed] of [
    ["an answer among other words", `Here: ${good} Done.`, 1, false],
    [
      "other case and blank lines",
      wrap("", ...single.groundTruths[0].map((l) => `  ${l.toUpperCase()}\t\n`)),
      1,
      false,
    ],
    ["no tags", "AdaByron\nAlanTuring", 0, true],
    ["no closing tag", good.replace("</", "<"), 0, true],
    ["the tag of a later turn", good.replaceAll("alphabetical", "combined_alphabetical"), 0, true],
    ["nothing between the tags", wrap(), 0, true],
    ["only spaces between the tags", wrap(" ", "\t"), 0, true],
    ["a wrong list is of the right form", wrap("0"), 0, false],
    ["empty, then good", wrap() + good, 1, false],
    ["good, then the same", good + good, 0, false],
    ["good, then worse", good + swapped, 0, false],
    ["worse, then good", swapped + good, 1, false],
    ["worse, good, worse", swapped + good + swapped, 0, false],
  ] as const)
    test(`scores ${what}`, () => {
      const verdict = single.score([answer]);
      is(verdict.reward, reward);
      equal(verdict.parts, { turnScores: [reward], formatFailed: [failed] });
    });
  test("tags within tags belong to the first opening tag", () => {
    const { reward } = single.score([`<alphabetical_sorted>\n${good}`]);
    ok(reward > 0.3 && reward < 1, `got ${reward}`);
  });
  test("an answer that is missing counts 0 and has no form", () =>
    equal(single.score([]), { reward: 0, parts: { turnScores: [0], formatFailed: [true] } }));

  test("one perfect turn of two: 1/2, or the power of 1/2 when the average is raised", () => {
    const two = { minTurns: 2, maxTurns: 2 };
    for (const [powerPerTurn, expected] of [
      [true, 0.5],
      [false, 0.5 ** 4],
    ] as const) {
      const [episode] = alphabetSort(generatedNames(), { ...two, powerPerTurn }).episodes(1);
      is(episode.score([episode.workedTurns[0].formatted, "?"]).reward, expected);
    }
  });

  test("equal lines score 1 as the ratio has it, also where frequent characters are left out", () => {
    const lines = Array.from({ length: 60 }, (_, i) => `Name${i % 7}x${"ab".repeat(i % 5)}`);
    is(ratio(lines.join("\n"), lines.join("\n")), 1);
    is(ratio("ab".repeat(300), "ab".repeat(300)), 1);
  });

  test("its functions are known to return: no thread stops them", () => {
    const [episode] = alphabetSort(generatedNames()).episodes(3);
    is(episode.isBounded, true);
  });

  test("episodes are made as they are asked for, from an endless generator", () => {
    const list = new EpisodeList(alphabetSort(generatedNames(), { minTurns: 2, maxTurns: 2 }), 2001);
    const wanted = list.slice(0, 300);
    equal(
      wanted.map(({ index }) => index),
      wanted.map((_, i) => i),
    );
    is(new Set(wanted.map(({ prompt }) => prompt)).size > 290, true);
    const again = new EpisodeList(alphabetSort(generatedNames(), { minTurns: 2, maxTurns: 2 }), 2001);
    is(again.at(299).prompt, wanted[299].prompt);
    const other = new EpisodeList(alphabetSort(generatedNames(), { minTurns: 2, maxTurns: 2 }), 2002);
    is(other.at(0).prompt === wanted[0].prompt, false);
  });
  test("a list that ends begins again", () => {
    const names = listedNames([["A B"], ["C D"], ["E F"]], "three rows");
    const list = new EpisodeList(alphabetSort(names, { maxTurns: 1, maxNamesPerTurn: 1 }), 5);
    equal(
      list.slice(2, 5).map(({ index }) => index),
      [2, 0, 1, 2, 0],
    );
  });
  test("draw takes its own stream's episode, whatever the rows of a file are", () => {
    const environment = alphabetSort(
      listedNames(
        [
          ["A B", "C D"],
          ["E F", "G H"],
        ],
        "two rows",
      ),
      { maxTurns: 1, maxNamesPerTurn: 2 },
    );
    const drawn = Array.from({ length: 40 }, (_, i) => environment.draw(new PythonRandom(i), i));
    equal(
      drawn.map(({ index }) => index),
      drawn.map((_, i) => i),
    );
    is(drawn.some(({ prompt }) => prompt.includes("EF")) && drawn.some(({ prompt }) => prompt.includes("AB")), true);
    is(environment.draw(new PythonRandom(3), 0).prompt, drawn[3].prompt);
  });

  test("refuses ranges that are none, and rows that never suffice", async () => {
    const names = generatedNames(3);
    await throwsMessage(() => alphabetSort(names, { minTurns: 3, maxTurns: 2 }), "minTurns ≤ maxTurns", "3 and 2");
    await throwsMessage(() => alphabetSort(names, { minNamesPerTurn: 0 }), "1 ≤ minNamesPerTurn", "0 and 5");
    const short = alphabetSort(names, { minTurns: 2, minNamesPerTurn: 2 });
    await throwsMessage(() => new EpisodeList(short, 1).at(0), "maxTurns · maxNamesPerTurn", "3 names per row");
    await throwsMessage(() => short.draw(new PythonRandom(1), 0), "Give longer rows");
    const finite = alphabetSort(listedNames([["A B"]], "one row"), { minTurns: 2 });
    await throwsMessage(
      () => new EpisodeList(finite, 1).at(0),
      "alphabet-sort (one row): expected at least one episode, got none",
    );
  });
});
