import { equal, is } from "uvu/assert";
import { type Episode, EpisodeList, type Reward, scoreEpisode } from "../../../rl/environments/environment.ts";
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
});
