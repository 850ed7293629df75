// Random models as folders: what the command writes is what the library fills an arena with, and any Qwen2 shape will do.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/index.ts";
import { openCheckpoint } from "../../model/checkpoint-files.ts";
import { publishedConfig, publishedShapes, withPublishedKeys } from "../../model/published-shapes.ts";
import { initialise } from "../../model/random-weights.ts";
import { makeWeights } from "../../model/weights.ts";
import { describe, fixturePath } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

describe("model/initialise", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-initialise-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = (...words: string[]) =>
    spawnSync(process.execPath, ["model/initialise.ts", ...words], { cwd: root, encoding: "utf8" });
  const make = (name: string, ...words: string[]): string => {
    const out = join(place, name);
    const { status, stderr } = run("--out", out, ...words);
    if (status !== 0) throw new Error(`exit code ${status}: ${stderr}`);
    return out;
  };

  for (const model of ["qwen2-tiny", "qwen2-untied-odd"])
    test(`${model}'s shape: the numbers of the library, with the spread that is promised`, async () => {
      const checkpoint = await openCheckpoint(make(model, "--config", fixturePath(model), "--seed", "7"));
      const weights = makeWeights(new CpuBackend(), checkpoint.config);
      initialise(weights, checkpoint.config, 7);
      for (const [name, values] of await weights.read()) {
        const { data, shape, dtype } = await checkpoint.tensor(name);
        assert.is(dtype, "f32");
        assert.equal(data, values, name);
        if (shape.length === 1) {
          assert.ok(
            values.every((value) => value === (name.endsWith("norm.weight") ? 1 : 0)),
            name,
          );
          continue;
        }
        const deviation = name.endsWith("embed_tokens.weight") ? 0.02 : shape[1] ** -0.5;
        const square = values.reduce((sum, value) => sum + value * value, 0) / values.length;
        // The mean of n squares of normals scatters by sqrt(2 / n) of itself: six times that.
        assert.ok(Math.abs(square / deviation ** 2 - 1) < 6 * Math.sqrt(2 / values.length), `${name}: ${square}`);
      }
      await checkpoint.close();
    });

  test("another seed, another model; the same seed, the same bytes; a config file alone; tokenizer files on demand", () => {
    const model = fixturePath("qwen2-tiny");
    copyFileSync(join(model, "config.json"), join(place, "shape.json"));
    const shape = ["--config", join(place, "shape.json")];
    const [one, same, other] = [
      make("one", ...shape, "--files-from", model),
      make("same", ...shape),
      make("other", ...shape, "--seed", "2"),
    ];
    const bytes = (folder: string) => readFileSync(join(folder, "model.safetensors"));
    assert.ok(bytes(one).equals(bytes(same)));
    assert.not(bytes(one).equals(bytes(other)));
    const tokenizer = join(model, "tokenizer.json");
    if (existsSync(tokenizer)) assert.ok(readFileSync(tokenizer).equals(readFileSync(join(one, "tokenizer.json"))));
    assert.not(existsSync(join(same, "tokenizer.json")));
  });

  test("bf16: each number rounded", async () => {
    const shape = ["--config", fixturePath("qwen2-tiny")];
    const [exact, rounded] = await Promise.all(
      [make("exact", ...shape), make("rounded", ...shape, "--dtype", "bf16")].map((folder) => openCheckpoint(folder)),
    );
    for (const name of exact.shapes.keys()) {
      const { data } = await exact.tensor(name);
      const { data: near, dtype } = await rounded.tensor(name);
      assert.is(dtype, "bf16");
      // Eight bits of significand, rounded to nearest.
      assert.ok(
        near.every((value, i) => Math.abs(value - data[i]) <= Math.abs(data[i]) * 2 ** -8),
        name,
      );
    }
    for (const checkpoint of [exact, rounded]) await checkpoint.close();
  });

  test("a published shape is the config.json that is published", () => {
    // https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/blob/main/config.json, without transformers_version; in f32.
    assert.equal(publishedConfig("Qwen2.5-0.5B"), {
      architectures: ["Qwen2ForCausalLM"],
      attention_dropout: 0,
      bos_token_id: 151643,
      eos_token_id: 151645,
      hidden_act: "silu",
      hidden_size: 896,
      initializer_range: 0.02,
      intermediate_size: 4864,
      max_position_embeddings: 32768,
      max_window_layers: 21,
      model_type: "qwen2",
      num_attention_heads: 14,
      num_hidden_layers: 24,
      num_key_value_heads: 2,
      rms_norm_eps: 1e-6,
      rope_theta: 1e6,
      sliding_window: 32768,
      tie_word_embeddings: true,
      torch_dtype: "float32",
      use_cache: true,
      use_sliding_window: false,
      vocab_size: 151936,
    });
    const windows = publishedShapes.map((name) => {
      const config = publishedConfig(name);
      return [config?.["sliding_window"], config?.["max_window_layers"]];
    });
    assert.equal(windows, [
      [32768, 21],
      [32768, 21],
      [32768, 70],
      [131072, 28],
    ]);
    for (const name of publishedShapes) {
      const config = publishedConfig(name) ?? {};
      assert.equal(withPublishedKeys(config, name), config, "nothing to add");
    }
  });

  test("what it refuses", () => {
    const there = make("there", "--config", fixturePath("qwen2-tiny"));
    const refused = (text: string, ...words: string[]): void => {
      const { status, stderr } = run(...words);
      assert.is(status, 2, stderr);
      assert.ok(stderr.includes(text), stderr);
    };
    refused("exists already", "--out", there, "--config", fixturePath("qwen2-tiny"));
    refused(
      "expected a config.json, a folder that has one, or qwen2.5-0.5b",
      "--out",
      join(place, "x"),
      "--config",
      "x",
    );
    refused("config is missing", "--out", join(place, "x"));
    refused("out is missing", "--config", "qwen2.5-0.5b");
    assert.not(existsSync(join(place, "x")));
  });
});
