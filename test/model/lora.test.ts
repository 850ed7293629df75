// A LoRA adapter of peft merged into its base model by model/export.ts. A and B are chosen so that B·A is known without a
// product: row k of A has a single 1, in column c(k), so scale·B[i, k] is added to W[i, c(k)] and to nothing else.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/errors.ts";
import { openCheckpoint } from "../../model/checkpoint-files.ts";
import { type TensorToWrite, writeSafetensors } from "../../model/safetensors.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import { copyOf, readConfigOf, weightsOf, withCheckpoint, writeJson } from "./model-folders.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const base = fixturePath("tiny-warm-start");

// As peft 0.17 writes it, with the settings that are at their defaults.
const usual = {
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: base,
  bias: "none",
  corda_config: null,
  eva_config: null,
  exclude_modules: null,
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 6,
  lora_bias: false,
  lora_dropout: 0.05,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  peft_type: "LORA",
  qalora_group_size: 16,
  r: 3,
  rank_pattern: {},
  revision: null,
  target_modules: ["q_proj", "down_proj"],
  target_parameters: null,
  task_type: "CAUSAL_LM",
  trainable_token_indices: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
};
const targets = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"];
const columnOf = (k: number): number => 5 * k + 2;

describe("model/lora", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-lora-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));
  const shapeOf = (module: string): Promise<readonly number[]> =>
    withCheckpoint(base, async ({ shapes }) => shapes.get(`${module}.weight`) ?? []);

  let adapters = 0;
  async function adapter(
    settings: object = {},
    { rank = 3, modules = targets, extra = [] as TensorToWrite[], drop = "" } = {},
  ): Promise<string> {
    const folder = join(scratch, `adapter-${adapters++}`);
    mkdirSync(folder);
    writeJson(folder, "adapter_config.json", { ...usual, ...settings });
    const tensors: TensorToWrite[] = [...extra];
    for (const module of modules) {
      const [rows, columns] = await shapeOf(module);
      const a = new Float32Array(rank * columns);
      for (let k = 0; k < rank; k++) a[k * columns + columnOf(k)] = 1;
      const b = Float32Array.from({ length: rows * rank }, (_, i) => (i % 7) - 3);
      tensors.push({ name: `base_model.model.${module}.lora_A.weight`, dtype: "f32", shape: [rank, columns], data: a });
      tensors.push({ name: `base_model.model.${module}.lora_B.weight`, dtype: "bf16", shape: [rows, rank], data: b });
    }
    const kept = tensors.filter(({ name }) => !(drop !== "" && name.includes(drop)));
    await writeSafetensors(join(folder, "adapter_model.safetensors"), kept);
    return folder;
  }

  const merge = (model: string, ...words: string[]) => {
    const out = join(scratch, `merged-${adapters++}`);
    const run = spawnSync(process.execPath, ["model/export.ts", "--model", model, "--out", out, ...words], {
      cwd: root,
      encoding: "utf8",
    });
    return { ...run, out };
  };

  async function expectMerged(out: string, scaleOf: (module: string) => number, rank = 3): Promise<void> {
    const [before, after] = [await weightsOf(base), await weightsOf(out)];
    for (const [name, values] of before) {
      const expected = Float32Array.from(values);
      const module = targets.find((target) => name === `${target}.weight`);
      if (module !== undefined) {
        const [rows, columns] = await shapeOf(module);
        for (let i = 0; i < rows; i++)
          for (let k = 0; k < rank; k++)
            expected[i * columns + columnOf(k)] += scaleOf(module) * (((i * rank + k) % 7) - 3);
      }
      assert.equal(after.get(name), expected, name);
    }
  }

  test("W + lora_alpha / r · B·A, with the base model's files", async () => {
    const { out, status, stderr } = merge(await adapter());
    assert.is(status, 0, stderr);
    assert.ok(stderr.includes("a LoRA adapter, merged into") && stderr.includes("2 of 26 tensors changed"), stderr);
    await expectMerged(out, () => 2);
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
      assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(base, name))), name);
    assert.is(readConfigOf(out)["model_type"], "qwen2");
    assert.not(readdirSync(out).includes("adapter_config.json"));
  });

  test("rslora divides by the root of the rank; alpha_pattern and rank are a module's own", async () => {
    const rooted = merge(await adapter({ use_rslora: true, r: 4 }, { rank: 4 }));
    assert.is(rooted.status, 0, rooted.stderr);
    await expectMerged(rooted.out, () => 6 / Math.sqrt(4), 4);
    const own = merge(
      await adapter({ alpha_pattern: { "layers.1.mlp.down_proj": 12 }, r: 8, rank_pattern: { ".*": 3 } }),
    );
    assert.is(own.status, 0, own.stderr);
    await expectMerged(own.out, (module) => (module.endsWith("down_proj") ? 4 : 2));
  });

  test("a tokenizer beside the adapter is the merged model's; --base names another place of the base", async () => {
    const folder = await adapter({ base_model_name_or_path: join(scratch, "moved") });
    writeFileSync(join(folder, "tokenizer_config.json"), "{}");
    const refused = merge(folder);
    assert.is(refused.status, 2, refused.stderr);
    for (const text of ["base model is not available", "--base", "moved"])
      assert.ok(refused.stderr.includes(text), text);
    const { out, status, stderr } = merge(folder, "--base", base);
    assert.is(status, 0, stderr);
    await expectMerged(out, () => 2);
    assert.is(readFileSync(join(out, "tokenizer_config.json"), "utf8"), "{}");
    assert.not(readdirSync(out).includes("tokenizer.json"), "never half of each");
    assert.ok(readdirSync(out).includes("generation_config.json"));
  });

  test("a module that was trained itself replaces the base model's", async () => {
    const shape = (await shapeOf("model.norm")) as number[];
    const data = new Float32Array(shape[0]).fill(3);
    const name = "base_model.model.model.norm.weight";
    const { out, status, stderr } = merge(
      await adapter({ modules_to_save: ["model.norm"] }, { extra: [{ name, dtype: "f32", shape, data }] }),
    );
    assert.is(status, 0, stderr);
    assert.equal((await weightsOf(out)).get("model.norm.weight"), data);
  });

  test("what cannot be merged is named", async () => {
    const refused = async (folder: string, ...texts: string[]): Promise<void> => {
      const { status, stderr, out } = merge(folder);
      assert.is(status, 2, stderr);
      for (const text of texts) assert.ok(stderr.includes(text), stderr);
      assert.throws(() => readdirSync(out));
    };
    await refused(await adapter({ peft_type: "IA3" }), "adapter_config.json", "LORA");
    await refused(await adapter({ use_qalora: true }), "use_qalora: true", "merge_and_unload");
    await refused(await adapter({ lora_alpha: 0 }), "lora_alpha is 0", "verl's merger");
    await refused(await adapter({ some_new_setting: 3 }), "some_new_setting: 3");
    await refused(await adapter({}, { drop: "q_proj.lora_B" }), "one of lora_A and lora_B is missing");
    const name = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight";
    const extra: TensorToWrite[] = [{ name, dtype: "f32", shape: [1], data: new Float32Array(1) }];
    await refused(await adapter({}, { extra }), "layers.9", "no linear layer", "its base model");
    await refused(await adapter({ base_model_name_or_path: null }), "--base");
    const { status, stderr } = merge(base, "--base", base);
    assert.is(status, 2);
    assert.ok(stderr.includes("base: expected only with a LoRA adapter"), stderr);
  });

  test("where a model is expected, an adapter is said to be one, and what to do", async () => {
    const folder = await adapter();
    const texts = ["this is a LoRA adapter", `node model/export.ts --model ${folder} --out MERGED`];
    assert.instance(await throwsMessage(() => openCheckpoint(folder), ...texts), CheckpointError);
    // transformers takes the adapter, not the weights beside it.
    const both = copyOf(scratch, "tiny-warm-start");
    writeJson(both, "adapter_config.json", usual);
    await throwsMessage(() => openCheckpoint(both), "this is a LoRA adapter");
  });
});
