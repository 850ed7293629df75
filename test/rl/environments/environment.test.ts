import { equal, is } from "uvu/assert";
import {
  type Episode,
  EpisodeList,
  episodeProblems,
  type Reward,
  scoreEpisode,
} from "../../../rl/environments/environment.ts";
import { describe, throwsMessage } from "../../support.ts";

function episode(verdict: Reward, index = 4): Episode {
  return { index, prompt: `prompt ${index}`, turns: 2, nextUserTurn: () => null, score: () => verdict };
}

describe("rl/environments/environment", (test) => {
  const parts = { turnScores: [1, 0], formatFailed: [false, true] };
  test("scoreEpisode passes a sound verdict on", () =>
    equal(scoreEpisode(episode({ reward: -0.5, parts }), ["a", "b"]), { reward: -0.5, parts }));
  for (const reward of [Number.NaN, Number.POSITIVE_INFINITY])
    test(`scoreEpisode refuses a reward of ${reward}`, () =>
      throwsMessage(() => scoreEpisode(episode({ reward, parts }), []), "episode 4", "finite reward", String(reward)));
  test("scoreEpisode refuses parts of another number of turns", () =>
    throwsMessage(
      () => scoreEpisode(episode({ reward: 0, parts: { ...parts, formatFailed: [true] } }), []),
      "2 turns",
      "2 scores and 1 format flags",
    ));

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
