import { equal, is, match } from "uvu/assert";
import { type Episode, EpisodeList, episodeProblems, type Score } from "../../../rl/environments/environment.ts";
import { verdictOf } from "../../../rl/environments/verdict.ts";
import { describe, throwsMessage } from "../../support.ts";

function episode(verdict: Score, index = 4): Episode {
  return { index, prompt: `prompt ${index}`, turns: 2, nextUserTurn: () => null, score: () => verdict };
}

/** What a scorer in JavaScript may return, whatever its type. */
const unchecked = (value: unknown): Score => value as Score;

describe("rl/environments/environment", (test) => {
  const parts = { turnScores: [1, 0], formatFailed: [false, true] };
  const refused = (score: Score, ...parts: string[]) =>
    throwsMessage(() => verdictOf(episode(score), score), "episode 4", ...parts);
  test("a sound score is a verdict: a number, or a reward with the parts that the environment has", () => {
    const verdict = (score: Score) => verdictOf(episode(score), score);
    equal(verdict(0.25), { reward: 0.25 });
    for (const known of [undefined, {}, parts, { turnScores: [1, 0] }, { rewards: { form: 1 } }])
      equal(verdict({ reward: -0.5, parts: known }), { reward: -0.5, parts: known });
  });
  for (const reward of [Number.NaN, Number.POSITIVE_INFINITY])
    test(`a reward of ${reward} is refused`, async () => {
      await refused(reward, "finite reward", String(reward));
      await refused({ reward, parts }, "finite reward", String(reward));
      await refused({ reward: 0, parts: { rewards: { form: reward } } }, "finite reward of form", String(reward));
    });
  test("what a scorer in JavaScript may return besides is refused", async () => {
    for (const score of [undefined, null, "1", true])
      await refused(
        JSON.parse(JSON.stringify([score]))[0],
        "finite reward",
        score === "1" ? 'got the text "1"' : `got ${score === undefined ? null : score}`,
      );
    await refused(unchecked([1]), "finite reward, got a list");
    await refused(unchecked({ score: 1 }), 'got an object without "reward" (score)');
  });

  test("parts that are not what they should be are refused, by name: they are averaged, written and read again", async () => {
    const wrong: readonly (readonly [unknown, string])[] = [
      ["abc", 'expected parts as an object, got the text "abc"'],
      [[1], "expected parts as an object, got a list"],
      [{ turnScores: "ab" }, 'turnScores: expected a list with a finite number per turn, got the text "ab"'],
      [{ turnScores: null }, "turnScores: expected a list with a finite number per turn, got null"],
      [{ turnScores: [1, "0.5"] }, 'turnScores: expected a finite number per turn, got the text "0.5" for turn 2'],
      [{ turnScores: [Number.NaN, 1] }, "turnScores: expected a finite number per turn, got NaN for turn 1"],
      [{ formatFailed: [0, 1] }, "formatFailed: expected true or false per turn, got 0 for turn 1"],
      [{ rewards: null }, "rewards: expected an object of numbers by name, got null"],
      [{ rewards: [1, 2] }, "rewards: expected an object of numbers by name, got a list"],
      [{ rewards: { form: "1" } }, 'expected a finite reward of form, got the text "1"'],
      [{ reward: 777 }, 'parts: "reward" is a field of the rollout itself'],
      [{ messages: "gone" }, 'parts: "messages" is a field of the rollout itself'],
      [{ note: 5n }, 'parts: "note" cannot be written as JSON: Do not know how to serialize a BigInt'],
    ];
    for (const [given, message] of wrong) await refused(unchecked({ reward: 1, parts: given }), message);
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    await refused(unchecked({ reward: 1, parts: { cycle } }), 'parts: "cycle" cannot be written as JSON');
    await refused(
      unchecked({ reward: 1, rewards: { form: 1 } }),
      '"rewards" stands beside the reward, where nothing reads it',
    );
    const free = { note: { why: "short" }, turnScores: [Number.NaN, 1], formatFailed: [true, false] };
    equal(verdictOf(episode(0), unchecked({ reward: 1, parts: free })), { reward: 1, parts: free });
    equal(verdictOf(episode(0), unchecked({ reward: 1, parts: null })), { reward: 1, parts: undefined });
  });
  test("parts of another number of turns are refused", async () => {
    await refused({ reward: 0, parts: { ...parts, formatFailed: [true] } }, "2 turns", "2 scores and 1 format flags");
    await refused({ reward: 0, parts: { turnScores: [1] } }, "2 turns", "1 scores and no format flags");
  });

  test("EpisodeList asks for each episode once, and for no more than it needs", () => {
    let made = 0;
    const environment = {
      name: "counting",
      *episodes(seed: number) {
        for (;;) yield episode({ reward: 0, parts }, seed + made++);
      },
    };
    const list = new EpisodeList(environment, 100);
    is(made, 0);
    is(list.at(2).index, 102);
    is(made, 3);
    is(list.at(0).index, 100);
    equal(
      list.slice(1, 2).map(({ index }) => index),
      [101, 102],
    );
    is(made, 3);
  });

  const listOf = (prompts: readonly string[]) => ({
    name: "listed",
    source: "rows.json",
    episodes: () => prompts.map((prompt, index) => ({ ...episode({ reward: 0, parts }, index), prompt })),
  });

  test("what is no episode, and a list that is none, are refused when they are made, with position and field", async () => {
    const first = (episodes: unknown) =>
      new EpisodeList({ name: "odd", episodes: episodes as (seed: number) => Iterable<Episode> }, 7).at(1);
    const sound = { index: 0, prompt: "x", score: () => 1 };
    const lists: readonly (readonly [() => unknown, string])[] = [
      [() => undefined, "expected a list, or what a generator (function*) gives, got undefined"],
      [async () => [sound], "got a promise. Read what it waits for in open, which may be async"],
      [
        async function* () {
          yield sound;
        },
        "got an async generator. Read what it waits for in open",
      ],
    ];
    for (const [list, message] of lists)
      await throwsMessage(() => first(list), 'environment "odd": episodes(7): ', message);
    const wrong: readonly (readonly [unknown, string])[] = [
      [undefined, "expected an object with index, prompt and score, got undefined"],
      [
        { ...sound, index: undefined },
        "index: expected a whole number from 0, its position in the list, got undefined",
      ],
      [{ ...sound, index: "q1" }, 'got the text "q1"'],
      [{ ...sound, prompt: 5 }, "prompt: expected a text, got 5"],
      [{ ...sound, systemPrompt: 5 }, "systemPrompt: expected a text, or none, got 5"],
      [{ ...sound, turns: 0 }, "turns: expected a whole number from 1, or none, got 0"],
      [{ ...sound, turns: "2" }, 'turns: expected a whole number from 1, or none, got the text "2"'],
      [{ ...sound, turns: Number.NaN }, "got NaN"],
      [{ ...sound, nextUserTurn: "x" }, "nextUserTurn: expected a function, or none"],
      [{ index: 0, prompt: "x" }, "score: expected a function, got undefined"],
    ];
    for (const [episode, message] of wrong)
      await throwsMessage(() => first(() => [sound, episode]), 'environment "odd": episodes(7): episode 1: ', message);
    const broken = (): unknown => {
      throw new Error("no rows");
    };
    const { name, message } = await throwsMessage(() => first(broken), "episodes(7) failed: no rows (");
    is(name, "EnvironmentError", "a user's error, without a stack");
    match(message, /environment\.test\.ts:\d+\)$/, "but with the line that it came from");
    const brokenLater = function* (): Generator<unknown> {
      yield sound;
      broken();
    };
    await throwsMessage(() => first(brokenLater), "episodes(7) failed: no rows (");
  });

  test("what is measured has different first messages: repeats are passed over", () => {
    const list = new EpisodeList(listOf(["a", "b", "a", "c", "b", "d"]), 1);
    equal(
      list.distinct(4).map(({ prompt, index }) => [prompt, index]),
      [
        ["a", 0],
        ["b", 1],
        ["c", 3],
        ["d", 5],
      ],
    );
  });

  test("where there are fewer different episodes than asked for, both numbers are told", async () => {
    const environment = listOf(["a", "b", "a", "c"]);
    await throwsMessage(
      () => new EpisodeList(environment, 1).distinct(64),
      "expected 64 episodes with different first messages, listed (rows.json) has 3",
    );
    equal(
      episodeProblems(environment, [
        { setting: "evaluate.episodes", count: 3, seed: 1 },
        { setting: "landscape.rollouts.prompts", count: 4, seed: 1 },
      ]).map((problem) => problem.slice(0, 83)),
      ["landscape.rollouts.prompts: expected 4 episodes with different first messages, list"],
    );
  });

  test("an endless list of few different episodes is given up", () =>
    throwsMessage(
      () =>
        new EpisodeList(
          {
            name: "coin",
            *episodes() {
              for (let i = 0; ; i++) yield { ...episode({ reward: 0, parts }, i), prompt: String(i % 2) };
            },
          },
          1,
        ).distinct(3),
      "expected 3 episodes",
      "coin has 2",
    ));

  test("a position knows which pass over a finite list it is in", () => {
    const list = new EpisodeList(listOf(["a", "b", "c"]), 1);
    equal(
      [0, 2, 3, 5, 6, 299].map((position) => list.pass(position)),
      [0, 0, 1, 1, 2, 99],
    );
  });
});
