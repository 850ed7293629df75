// The work that a whole model is said to do, counted product by product in another way, and the command that divides by it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { decodeWeightBytes, forwardFlops, trainingFlops } from "../../bench/model/model-work.ts";
import { openConfig, parseConfig, type Qwen2Config } from "../../model/index.ts";
import { describe, fixturePath } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";

/** Every product of a forward pass, one by one. */
function countFlops(config: Qwen2Config, tokens: number, earlier: number, headRows: number): number {
  const { hiddenSize: C, intermediateSize: F, headDim: D, numAttentionHeads: H, numKeyValueHeads: K } = config;
  let flops = 0;
  const product = (rows: number, inputs: number, outputs: number): void => {
    flops += 2 * rows * inputs * outputs;
  };
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    product(tokens, C, H * D); // q
    product(tokens, C, K * D); // k
    product(tokens, C, K * D); // v
    for (let token = 0; token < tokens; token++)
      for (let head = 0; head < H; head++) {
        product(1, D, earlier + token + 1); // scores
        product(1, earlier + token + 1, D); // mixture
      }
    product(tokens, H * D, C); // o
    product(tokens, C, F); // gate
    product(tokens, C, F); // up
    product(tokens, F, C); // down
  }
  product(headRows, C, config.vocabSize);
  return flops;
}

describe("bench/model", (test) => {
  for (const name of ["qwen2-tiny", "qwen2-untied-odd"])
    test(`${name}: operations of prefill, decode and training, and bytes of weights`, async () => {
      const { config, configJson } = await openConfig(fixturePath(name));
      const sizes = parseConfig(configJson, name);
      for (const [tokens, earlier, headRows] of [
        [1, 0, 1],
        [5, 0, 1],
        [1, 31, 1],
        [7, 12, 6],
      ] as const)
        assert.is(
          forwardFlops(config, tokens, earlier, headRows),
          countFlops(sizes, tokens, earlier, headRows),
          `${tokens} tokens after ${earlier}`,
        );
      assert.is(trainingFlops(config, 9), 3 * countFlops(sizes, 9, 0, 8));
      const index = readFileSync(fixturePath(`${name}/model.safetensors`));
      const header = JSON.parse(index.subarray(8, 8 + Number(index.readBigUInt64LE(0))).toString()) as Record<
        string,
        { data_offsets: [number, number] }
      >;
      const stored = Math.max(...Object.values(header).map(({ data_offsets }) => data_offsets?.[1] ?? 0));
      const lookedUp = config.tieWordEmbeddings ? 0 : 4 * config.vocabSize * config.hiddenSize;
      assert.is(decodeWeightBytes(config), stored - lookedUp);
    });

  test("the command times every part of the tiny model, and says what it did", () => {
    const place = mkdtempSync(join(tmpdir(), "foothold-whole-model-"));
    try {
      const json = join(place, "results.json");
      const words = ["--model", fixturePath("tiny-warm-start"), "--adapter", adapter, "--json", json, "--no-ceilings"];
      const sizes = ["--tokens", "24", "--new-tokens", "3", "--rows", "1,5", "--repeats", "1"];
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        ["bench/model/whole-model.ts", ...words, ...sizes],
        { cwd: root, encoding: "utf8" },
      );
      assert.is(status, 0, stderr);
      for (const text of ["prefill", "decode step, 5 rows", "training step"]) assert.ok(stdout.includes(text), stdout);
      const { inference, training } = JSON.parse(readFileSync(json, "utf8"));
      assert.is(inference.greedy.length, 4);
      assert.equal(
        inference.decode.map(({ rows }: { rows: number }) => rows),
        [1, 5],
      );
      for (const { seconds } of [inference.load, inference.prefill, ...inference.decode, training.step])
        assert.ok(seconds > 0);
      assert.is(training.losses.length, 2);
      assert.ok(training.peakBytes > training.deviceBytes && training.deviceBytes > 0);
    } finally {
      rmSync(place, { recursive: true });
    }
  });
});
