// The occupancy of the generation batch: what the passes of `generate` report, and what a training run says and records.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match } from "uvu/assert";
import { type Dialogue, generate, loadModel, type Pass } from "../../model/index.ts";
import { Occupancy } from "../../rl/occupancy.ts";
import { testBackends } from "../backends.ts";
import { expectDone, runStudy } from "../landscape/tiny-study.ts";
import { describe, fixturePath } from "../support.ts";

describe("rl/occupancy", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-occupancy-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  /** Passes of `count` conversations; the first says 4 tokens in two answers, the others 2 in one. */
  const passesOf = async (count: number, maxRows: number, stepsPerRead: number): Promise<Pass[]> => {
    const { backend } = (await testBackends())[0];
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const dialogues: Dialogue[] = Array.from({ length: count }, (_, rollout) => ({
      policy: 0,
      prompt: [3, 5],
      noise: { rollout, prompt: 7 },
      expectedTokens: 6,
      answered: ({ turn }) => (rollout === 0 && turn === 0 ? [8] : null),
    }));
    const passes: Pass[] = [];
    const settings = { maxNewTokens: 2, temperature: 1, noiseKey: [1, 2] as const, stopIds: [], maxTokens: 100 };
    await generate({ backend, config, weights }, dialogues, {
      ...{ ...settings, maxRows, stepsPerRead },
      onPass: (pass) => passes.push(pass),
    });
    weights.free();
    return passes;
  };

  test("a row that ends is replaced at once, and only the last ones leave places empty", async () => {
    for (const stepsPerRead of [1, 2]) {
      const passes = await passesOf(4, 2, stepsPerRead);
      // Conversation 0 takes passes 1 to 4. Beside it 1 takes passes 1 and 2, and 2 takes 3 and 4. Then 3 is alone.
      equal(
        passes.map(({ rows, places }) => [rows, places]),
        [2, 2, 2, 2, 1, 1].map((rows) => [rows, 2]),
      );
      const occupancy = new Occupancy();
      is(occupancy.share, null);
      passes.forEach((pass) => void occupancy.add(pass));
      is(occupancy.share, 10 / 12);
    }
  });

  test("places are all conversations where these are fewer than maxRows", async () => {
    const passes = await passesOf(3, 8, 1);
    equal(
      passes.map(({ rows, places }) => [rows, places]),
      [3, 3, 1, 1].map((rows) => [rows, 3]),
    );
  });

  test("a training run says it at its end, and records it for each step", async () => {
    const folder = join(place, "study");
    const said = expectDone(
      await runStudy(folder, { "landscape.steps": "", "train.steps": "2", "train.checkpoints": "0" }),
    );
    const lines: Record<string, number | string>[] = readFileSync(join(folder, "timings.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const withShare = lines.filter((line) => "occupancy" in line);
    equal(
      withShare.map(({ step, phase }) => `${step} ${phase}`),
      ["0 evaluation", "1 rollouts", "2 rollouts", "2 evaluation"],
    );
    for (const { occupancy } of withShare) is(Number(occupancy) > 0 && Number(occupancy) <= 1, true);
    const [, percent] = /on average (\d+)% of the generation batch's places were in use/.exec(said) ?? [];
    const ofSteps = withShare
      .filter(({ phase }) => phase === "rollouts")
      .map(({ occupancy }) => 100 * Number(occupancy));
    match(said, "It has --batch.rows (512) places");
    is(Number(percent) >= Math.floor(Math.min(...ofSteps)) && Number(percent) <= Math.ceil(Math.max(...ofSteps)), true);
  });
});
