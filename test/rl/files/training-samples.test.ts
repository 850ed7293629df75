// The sample conversations of training steps that the report shows.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { equal, match } from "uvu/assert";
import { trainingRolloutsPath } from "../../../rl/files/layout.ts";
import { readTrainingSamples } from "../../../rl/files/training-samples.ts";
import { describe } from "../../support.ts";

describe("rl/files/training-samples", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-samples-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, "rollouts"));
  const lines = [0, 1, 2, 3].flatMap((episode) =>
    [0, 1].map((rollout) =>
      JSON.stringify({
        ...{ episode, rollout, reward: episode / 4, advantage: rollout, isTruncated: false, failure: null },
        messages: [{ role: "assistant", content: `${episode} ${rollout}` }],
      }),
    ),
  );
  writeFileSync(trainingRolloutsPath(folder, 30), gzipSync(`${lines.join("\n")}\n`));

  test("the first rollout of the first three prompts", () => {
    const [{ step, conversations }] = readTrainingSamples(folder, [30], () => {});
    equal(step, 30);
    equal(
      conversations.map(({ episode, rollout, messages }) => [episode, rollout, messages[0].content]),
      [
        [0, 0, "0 0"],
        [1, 0, "1 0"],
        [2, 0, "2 0"],
      ],
    );
  });

  test("a missing or damaged file is named, and its step has none", () => {
    writeFileSync(trainingRolloutsPath(folder, 60), gzipSync(lines.join("\n")).subarray(0, 40));
    const said: string[] = [];
    const samples = readTrainingSamples(folder, [30, 60, 90], (message) => said.push(message));
    equal(
      samples.map(({ conversations }) => conversations.length),
      [3, 0, 0],
    );
    match(said[0], /step-000060\.jsonl\.gz: cannot be read/);
    match(said[1], /step-000090\.jsonl\.gz: missing/);
  });
});
