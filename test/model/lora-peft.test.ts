// Adapters that peft wrote, merged here, against what peft computes with them in float64: the merged weights, and the
// logits of the model with its adapter not merged.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { CpuBackend, linear, scopeAsync } from "../../engine/index.ts";
import { type Checkpoint, openCheckpoint } from "../../model/checkpoint-files.ts";
import { headWeight, packSequences, readAdapterConfig } from "../../model/index.ts";
import { mergeAdapter } from "../../model/lora.ts";
import { loadWeights, openMerged } from "../../model/weights.ts";
import { readSafetensorsFixture } from "../fixture-tensors.ts";
import { assertClose, assertKnown, describe, fixturePath, readFixture, throwsMessage } from "../support.ts";
import { copyOf, readAdapterConfigOf, weightsOf, writeJson } from "./model-folders.ts";

interface KnownAdapters {
  readonly ids: readonly number[];
  readonly cases: readonly {
    readonly name: string;
    readonly base: string;
    readonly adapter: string;
    readonly vocabSize: number;
    /** null where peft cannot merge, or not without an error of its own. */
    readonly tied: boolean | null;
    readonly merged: readonly string[] | null;
  }[];
}

const file = "lora.safetensors";
const embedding = "model.embed_tokens.weight";
// As fixtures/README.md gives them: the merged weights are rounded to f32 once, and the logits see that rounding.
const nearestFloat32 = { relative: 2 ** -24 * (1 + 1e-6), absolute: 2 ** -150 };
const logitBounds = { absolute: 1e-4 };

async function logitsOf(checkpoint: Checkpoint, ids: readonly number[]): Promise<ArrayLike<number>> {
  const backend = new CpuBackend();
  const weights = await loadWeights(backend, checkpoint, { dtype: "f64" });
  const { config } = checkpoint;
  return scopeAsync(async () => {
    const states = config.forward(weights, packSequences(backend, [ids]), null);
    return linear(states, headWeight(config, weights), null, null).read();
  });
}

describe("model/lora-peft", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-lora-peft-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));
  const { ids, cases } = readFixture<KnownAdapters>("lora.json");
  const tensors = readSafetensorsFixture(file);

  for (const { name, base, adapter, vocabSize, tied, merged } of cases)
    test(`${name}: weights and logits are peft's`, async () => {
      const before = await weightsOf(fixturePath(`lora/${base}`));
      const checkpoint = await openMerged(fixturePath(`lora/${base}`), fixturePath(`lora/${adapter}`));
      try {
        const { config } = checkpoint;
        assert.is(config.vocabSize, vocabSize);
        assert.is(checkpoint.configJson["vocab_size"], vocabSize);
        assert.is(checkpoint.configJson["tie_word_embeddings"] === true, config.tieWordEmbeddings);
        if (merged !== null) {
          assert.is(config.tieWordEmbeddings, tied);
          for (const parameter of checkpoint.shapes.keys()) {
            const { data } = await checkpoint.tensor(parameter);
            const known = tensors.get(`${name}/${parameter}`);
            const unchanged = before.get(parameter) ?? before.get(embedding) ?? [];
            if (known !== undefined) assertKnown(file, "merged", "merge", data, known.values, nearestFloat32);
            else assertClose(`${name}: ${parameter}`, data, unchanged, {});
          }
          for (const parameter of merged) assert.ok(checkpoint.shapes.has(parameter), parameter);
        }
        const expected = tensors.get(`${name}/logits`)?.values ?? [];
        assertKnown(file, "logits", "CPU f64", await logitsOf(checkpoint, ids), expected, logitBounds);
      } finally {
        await checkpoint.close();
      }
    });

  test("patterns that are not matched in time are refused by name", async () => {
    const { base } = cases.find(({ name }) => name === "plain") ?? { base: "" };
    const folder = copyOf(scratch, "lora/plain");
    // Many of them are as slow as one that goes astray.
    const ranks = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`no_module_${i}`, 8]));
    writeJson(folder, "adapter_config.json", { ...readAdapterConfigOf(folder), rank_pattern: ranks });
    const opened = await openCheckpoint(fixturePath(`lora/${base}`));
    try {
      const merge = (seconds: number) => mergeAdapter(opened, readAdapterConfig(folder), seconds);
      await throwsMessage(
        () => merge(0.002),
        join(folder, "adapter_config.json"),
        "after 0.002 s",
        "Name the modules in place of patterns",
      );
      // The base stays open: with time it is merged.
      const merged = await merge(300);
      assert.ok(merged.notes.some((note) => note.includes("tensors changed")));
    } finally {
      await opened.close();
    }
  });

  test("tensors that the settings do not describe are named, and settings whose tensors are missing", async () => {
    const refused = async (adapter: string, changes: object, ...texts: string[]): Promise<void> => {
      const { base } = cases.find(({ name }) => name === adapter) ?? { base: "" };
      const folder = copyOf(scratch, `lora/${adapter}`);
      writeJson(folder, "adapter_config.json", { ...readAdapterConfigOf(folder), ...changes });
      await throwsMessage(() => openMerged(fixturePath(`lora/${base}`), folder), folder, ...texts);
    };
    const ignored = "peft would ignore them";
    await refused("plain", { target_modules: ["q_proj"] }, "0.self_attn.v_proj", "1.self_attn.v_proj", ignored);
    await refused("plain", { target_modules: ".*\\.q_proj|v_proj" }, "v_proj", ignored);
    await refused("plain", { exclude_modules: ["0.self_attn.q_proj"] }, "0.self_attn.q_proj", ignored);
    await refused("plain", { exclude_modules: ".*1.*q.*" }, "1.self_attn.q_proj", ignored);
    await refused("plain", { layers_to_transform: [1] }, "0.self_attn.v_proj", ignored);
    await refused("tied-ensured", { target_modules: ["embed_tokens"] }, "0.self_attn.v_proj", ignored);
    await refused("layers", { layers_to_transform: 0 }, "1.mlp.down_proj", ignored);
    await refused("layers", { layers_pattern: ["blocks"] }, "1.mlp.down_proj", ignored);
    await refused("parameters", { target_parameters: ["q_proj.weight"] }, "down_proj", ignored);
    await refused("plain", { target_modules: "(?>.*)" }, "adapter_config.json", "(?>.*)", "is not understood");
    await refused("plain", { alpha_pattern: { "(?>q)": 1 } }, "adapter_config.json", "(?>q)", "is not understood");
    await refused("plain", { r: 4 }, "rank 2, r and rank_pattern give 4");
    await refused("plain", { rank_pattern: { v_proj: 3 } }, "rank 2, r and rank_pattern give 3");
    await refused("plain", { use_dora: true }, "lora_magnitude_vector is missing");
    await refused("dora", { use_dora: false }, "lora_magnitude_vector is there");
    await refused("plain", { lora_bias: true }, "the bias of lora_B is missing");
    await refused("lora-bias", { lora_bias: false }, "the bias of lora_B is there");
    await refused(
      "plain",
      { modules_to_save: ["lm_head"] },
      '"lm_head" is among modules_to_save, its weight is missing',
    );
    await refused("plain", { trainable_token_indices: [1] }, "trainable_tokens_delta is missing");
    await refused("tokens", { trainable_token_indices: [1] }, "trainable_token_indices has 1 rows");
    await refused("tokens", { trainable_token_indices: [1, 3, 1000] }, "token 1000 was trained");
    await refused("velora", { velora_config: null }, "lora_velora_embed", "belongs to no linear layer");
    await refused("plain", { bias: "some" }, "bias");
    for (const [key, value] of [
      ["kasa_config", {}],
      ["use_bdlora", { nblocks: 2 }],
      ["monteclora_config", {}],
      ["layer_replication", [[0, 2]]],
      ["use_qalora", true],
      ["megatron_config", { hidden_size: 8 }],
    ] as const)
      await refused("plain", { [key]: value }, `${key}: ${JSON.stringify(value)} cannot be merged`, "merge_and_unload");
    for (const key of ["alora_invocation_tokens", "arrow_config"])
      await refused("plain", { [key]: [3] }, `${key}: [3] cannot be merged here`, "no weights equal it");
    for (const how of ["pissa_niter_4", "OLoRA", "corda", "loftq", "lora_ga"])
      await refused("plain", { init_lora_weights: how }, JSON.stringify(how), "changes the base model too");
    await refused("plain", { init_lora_weights: "new" }, "new", "is not known here");
    const other = fixturePath("lora/qwen2-tied");
    await throwsMessage(
      () => openMerged(other, fixturePath("lora/second-adapter")),
      "Name one of them",
      join("second-adapter", "second"),
    );
  });
});
