// Copies of a prompt: each meets noise of its own, so that the rollouts of a batch are different draws.
import { equal, is, match } from "uvu/assert";
import { CpuBackend } from "../../engine/index.ts";
import { loadChat, loadModel, loadTokenizer } from "../../model/index.ts";
import { alphabetSort, EpisodeList, listedNames, type RolloutSettings, rollOut } from "../../rl/index.ts";
import { openingOf, positionsNote } from "../../rl/openings.ts";
import { noiseRollout, trainingRollouts } from "../../rl/rollout.ts";
import { describe, fixturePath } from "../support.ts";

const rows = [
  "Ada Byron|Alan Turing|Emmy Noether",
  "Kurt Goedel|Paul Erdos|Sofia Kova",
  "Carl Gauss|Ida Rhodes|Leo Abe",
  "Ann Bly|Bo Cruz|Cy Dahl",
].map((names) => names.split("|"));
const environment = alphabetSort(listedNames(rows, "four rows"), {
  ...{ minTurns: 1, maxTurns: 1, minNamesPerTurn: 3, maxNamesPerTurn: 3 },
});

describe("rl/rollout", (test) => {
  test("a finite list's later passes, and equal prompts of one step, are numbered as copies", () => {
    const copies = (list: EpisodeList, step: number, prompts: number): (number | undefined)[] =>
      trainingRollouts(list, step, prompts, 1).map(({ copy }) => copy);
    const list = new EpisodeList(environment, 1);
    equal(copies(list, 1, 4), [0, 0, 0, 0]);
    equal(copies(list, 2, 4), [1, 1, 1, 1]);
    equal(copies(list, 1, 10), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    const [first] = list.slice(0, 1);
    const repeated = new EpisodeList({ name: "twins", episodes: () => [first, first] }, 1);
    equal(copies(repeated, 1, 5), [0, 1, 2, 3, 4]);
  });

  test("copy k adds 65,536 · k to the noise counter's rollout", () => {
    is(noiseRollout({ rollout: 3 }), 3);
    is(noiseRollout({ rollout: 3, copy: 2 }), 131_075);
    is(noiseRollout({ rollout: 1, copy: 65_536 }), 1);
  });

  test("the second pass in a step draws other answers than the first", async () => {
    const backend = new CpuBackend();
    const folder = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, folder);
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const settings: RolloutSettings = {
      ...{ maxNewTokens: 12, temperature: 4, seed: 1, purpose: "train", step: 1 },
      ...{ turn2Template: "standard", maxRows: 16, maxTokens: 4096 },
    };
    const requests = trainingRollouts(new EpisodeList(environment, 1), 1, 8, 2);
    const answers = (await rollOut({ backend, config, weights }, chat, requests, settings)).map(({ ids }) =>
      ids.join(" "),
    );
    is(requests[0].episode.prompt, requests[8].episode.prompt, "position 4 is the first row again");
    is(new Set(answers).size, 16, "no rollout is a copy of another");
    weights.free();
  });

  test("conversations that can be longer than the model was made for are said, from the first token on", async () => {
    const folder = fixturePath("tiny-warm-start");
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const episodes = ["Hello", "Hello, you there"].map((prompt, index) => ({ index, prompt, score: () => 0 }));
    const longest = openingOf(episodes[1], chat).prompt.length + 20;
    const note = (positions: number) =>
      positionsNote(episodes, chat, { maxNewTokens: 20, positions, cure: "fewer turns" });
    is(note(longest), null);
    match(
      note(longest - 1) ?? "",
      `Conversations of up to ${longest} tokens, if every answer has 20: the model was made for ${longest - 1}`,
    );
  });
});
