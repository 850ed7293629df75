// A Llama is read as the Qwen2 whose biases are zero, or refused by the name of what would differ.

import { deepStrictEqual } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { CpuBackend, linear, scopeAsync } from "../../engine/index.ts";
import { openCheckpoint } from "../../model/checkpoint-files.ts";
import { parseConfig } from "../../model/config.ts";
import { headWeight, packSequences } from "../../model/index.ts";
import { qwen2OfLlama } from "../../model/llama.ts";
import { loadModel, saveWeights } from "../../model/weights.ts";
import { readSafetensorsFixture } from "../fixture-tensors.ts";
import { assertKnown, describe, fixturePath, readFixture, throwsMessage } from "../support.ts";
import { changeTensors, copyOf, readConfigOf, weightsOf, withCheckpoint, writeJson } from "./model-folders.ts";

// As in https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, with what older files leave out left out.
const bare = {
  architectures: ["LlamaForCausalLM"],
  hidden_act: "silu",
  hidden_size: 64,
  intermediate_size: 96,
  model_type: "llama",
  num_attention_heads: 4,
  num_hidden_layers: 2,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  vocab_size: 100,
};

describe("model/llama", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-llama-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));

  /** The fixture without its biases, as a Llama and as a Qwen2 with zeros in their place. */
  async function pair(): Promise<{ llama: string; qwen2: string }> {
    const [llama, qwen2] = [copyOf(scratch, "qwen2-untied-odd"), copyOf(scratch, "qwen2-untied-odd")];
    await changeTensors(llama, (tensors) => {
      for (const name of [...tensors.keys()].filter((key) => key.endsWith(".bias"))) tensors.delete(name);
    });
    await changeTensors(qwen2, (tensors) => {
      for (const tensor of tensors.values())
        if (tensor.name.endsWith(".bias")) tensor.data = new Float32Array(tensor.shape[0]);
    });
    writeJson(llama, "config.json", {
      ...readConfigOf(llama),
      model_type: "llama",
      architectures: ["LlamaForCausalLM"],
    });
    return { llama, qwen2 };
  }

  test("the Qwen2 with zero biases: the same configuration and weights, and a note", async () => {
    const { llama, qwen2 } = await pair();
    const loaded = await openCheckpoint(llama);
    const meant = await openCheckpoint(qwen2);
    // Facts; the methods are closures of each.
    assert.is(JSON.stringify(loaded.config), JSON.stringify(meant.config));
    assert.equal([...loaded.shapes], [...meant.shapes]);
    assert.equal(loaded.configJson, { bos_token_id: 1, ...meant.configJson });
    assert.is(loaded.dtype("model.layers.0.self_attn.q_proj.bias"), "f32");
    assert.is(loaded.notes.length, 1);
    for (const text of ["Llama", "Qwen2", "zero biases"]) assert.ok(loaded.notes[0].includes(text), loaded.notes[0]);
    for (const checkpoint of [loaded, meant]) await checkpoint.close();
    deepStrictEqual(await weightsOf(llama), await weightsOf(qwen2));
    // What is saved from it is a Qwen2, which needs no note.
    const { weights } = await loadModel(new CpuBackend(), llama, { note: () => {} });
    const saved = join(scratch, "saved");
    await saveWeights(weights, saved, llama);
    assert.is(readConfigOf(saved)["model_type"], "qwen2");
    deepStrictEqual(await weightsOf(saved), await weightsOf(qwen2));
    await withCheckpoint(saved, async ({ notes }) => assert.equal(notes, []));
  });

  test("the logits are those of transformers' Llama", async () => {
    const { ids, models } = readFixture<{ ids: number[]; models: string[] }>("llama.json");
    const known = readSafetensorsFixture("llama.safetensors");
    for (const name of models) {
      const backend = new CpuBackend();
      const folder = fixturePath(`llama/${name}`);
      const { config, weights } = await loadModel(backend, folder, { dtype: "f64", note: () => {} });
      const logits = await scopeAsync(async () => {
        const states = config.forward(weights, packSequences(backend, [ids]), null);
        return linear(states, headWeight(config, weights), null, null).read();
      });
      const expected = known.get(name)?.values ?? [];
      assertKnown("llama.safetensors", name, "CPU f64", logits, expected, { relative: 1e-9, absolute: 1e-9 });
    }
  });

  test("what its config.json leaves out is what transformers' LlamaConfig takes", () => {
    const config = parseConfig(qwen2OfLlama(bare, "config.json"), "config.json");
    assert.is(config.numKeyValueHeads, 4);
    assert.is(config.maxPositionEmbeddings, 2048);
    assert.is(config.ropeTheta, 10_000);
    assert.is(config.tieWordEmbeddings, false);
    assert.equal(config.eosTokenIds, [2]);
    const eos = (eos_token_id: unknown) => parseConfig(qwen2OfLlama({ ...bare, eos_token_id }, ""), "").eosTokenIds;
    assert.equal(eos(null), []);
    assert.equal(eos([7, 8]), [7, 8]);
    const json = qwen2OfLlama({ ...bare, pretraining_tp: 1, mlp_bias: false, attention_bias: false }, "");
    assert.equal(json["bos_token_id"], 1);
    for (const key of ["pretraining_tp", "mlp_bias", "attention_bias"]) assert.not(key in json, key);
  });

  test("what a Qwen2 has not is refused by name", async () => {
    const refused = (change: object, ...texts: string[]) =>
      throwsMessage(() => parseConfig(qwen2OfLlama({ ...bare, ...change }, "c.json"), "c.json"), "c.json: ", ...texts);
    await refused({ attention_bias: true }, "attention_bias", "expected false, got true", "output projection");
    await refused({ mlp_bias: true }, "mlp_bias");
    await refused({ architectures: ["LlamaForSequenceClassification"] }, "LlamaForSequenceClassification");
    const llama3 = { factor: 32, high_freq_factor: 4, low_freq_factor: 1, original_max_position_embeddings: 8192 };
    await refused({ rope_scaling: { ...llama3, rope_type: "llama3" } }, "rope_scaling.rope_type", '"llama3"');
    await refused({ rope_parameters: { ...llama3, rope_theta: 5e5, rope_type: "llama3" } }, '"llama3"');
    await refused({ hidden_act: "gelu" }, "hidden_act");
    // Biases in the file of a model that declares none.
    const folder = copyOf(scratch, "qwen2-untied-odd");
    writeJson(folder, "config.json", { ...readConfigOf(folder), model_type: "llama", architectures: null });
    await throwsMessage(() => openCheckpoint(folder), '"model.layers.0.self_attn.q_proj.bias"', "is not a parameter");
  });
});
