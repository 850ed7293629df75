import { readdirSync, readFileSync } from "node:fs";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/errors.ts";
import { isLinearWeight, parseConfig, parseGenerationConfig, qwen2ParameterShapes } from "../../model/config.ts";
import { openSafetensors } from "../../model/safetensors.ts";
import { describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

type Json = Record<string, unknown> & { rope_parameters?: { rope_theta: number } };
const folders = ["qwen2-tiny", "qwen2-tiny-bf16-sharded", "qwen2-tiny-bare-f16", "qwen2-untied-odd", "tiny-warm-start"];
const configOf = (folder: string): Json => JSON.parse(readFileSync(fixturePath(`${folder}/config.json`), "utf8"));
const published = configOf("qwen2-untied-odd");
const newStyle = configOf("qwen2-tiny");
const without = (json: Json, ...keys: string[]) =>
  Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)));

describe("model/config", (test) => {
  for (const folder of folders)
    test(`${folder}: every field is what the file says`, () => {
      const json = configOf(folder);
      const config = parseConfig(json, folder);
      assert.equal(config, {
        vocabSize: json["vocab_size"],
        hiddenSize: json["hidden_size"],
        intermediateSize: json["intermediate_size"],
        numHiddenLayers: json["num_hidden_layers"],
        numAttentionHeads: json["num_attention_heads"],
        numKeyValueHeads: json["num_key_value_heads"],
        headDim: Number(json["hidden_size"]) / Number(json["num_attention_heads"]),
        maxPositionEmbeddings: json["max_position_embeddings"],
        ropeTheta: json["rope_theta"] ?? json.rope_parameters?.rope_theta,
        rmsNormEps: json["rms_norm_eps"],
        tieWordEmbeddings: json["tie_word_embeddings"],
        eosTokenIds: [json["eos_token_id"]],
      });
    });

  test("both spellings of one model give one configuration", () => {
    const rope_theta = newStyle.rope_parameters?.rope_theta;
    const renamed = { ...without(newStyle, "rope_parameters", "dtype"), rope_theta, torch_dtype: "float32" };
    assert.equal(parseConfig(renamed, "published"), parseConfig(newStyle, "new"));
    assert.equal(parseConfig(configOf("qwen2-tiny-bare-f16"), ""), parseConfig(newStyle, ""));
  });

  test("what is absent is transformers' default", () => {
    const bare = without(published, "rope_theta", "rms_norm_eps", "tie_word_embeddings", "eos_token_id", "hidden_act");
    const config = parseConfig(bare, "config.json");
    assert.is(config.ropeTheta, 10_000);
    assert.is(config.rmsNormEps, 1e-6);
    assert.is(config.tieWordEmbeddings, false);
    assert.equal(config.eosTokenIds, []);
  });

  test("end tokens are a number, a list or none", () => {
    const tokens = (eos_token_id: unknown) =>
      parseGenerationConfig({ eos_token_id, temperature: 0.7 }, "g").eosTokenIds;
    assert.equal(tokens(3), [3]);
    assert.equal(tokens([0, 3]), [0, 3]);
    assert.equal(tokens(null), []);
    assert.equal(tokens(undefined), []);
    assert.throws(() => tokens("3"), /eos_token_id: expected a token id or a list of them, got "3"/);
    assert.equal(parseConfig({ ...published, eos_token_id: [0, 2] }, "").eosTokenIds, [0, 2]);
  });

  const refusals: Record<string, [Record<string, unknown>, ...string[]]> = {
    "another model": [{ model_type: "gemma3" }, "model_type", '"qwen2"', '"llama"', '"gemma3"', "are supported"],
    "another head": [{ architectures: ["Qwen2ForSequenceClassification"] }, "architectures.0", "Qwen2ForCausalLM"],
    "sliding windows": [{ use_sliding_window: true }, "use_sliding_window", "expected false, got true"],
    "layers with windows": [{ layer_types: ["full_attention", "sliding_attention"] }, "layer_types.1"],
    "scaled rotary angles": [{ rope_scaling: { type: "yarn", factor: 4 } }, "rope_scaling.type", '"yarn"'],
    "scaled rotary angles, new style": [{ rope_parameters: { rope_type: "linear" } }, "rope_parameters.rope_type"],
    "a table of rotary angles for each type of layer": [
      { rope_parameters: { full_attention: { rope_theta: 5, rope_type: "default" } } },
      "rope_parameters.full_attention",
      '{"rope_theta":5',
      "not supported",
    ],
    "a rotary setting that is not known": [{ rope_scaling: { factor: 4 } }, "rope_scaling.factor", "got 4"],
    "half-rotated heads": [{ rope_parameters: { partial_rotary_factor: 0.5 } }, "partial_rotary_factor"],
    "two rotary bases": [{ rope_parameters: { rope_theta: 3 } }, "rope_theta", "and 3"],
    "another activation": [{ hidden_act: "gelu" }, "hidden_act", '"silu"', '"gelu"'],
    "no biases": [{ attention_bias: false }, "attention_bias", "expected true, got false"],
    "multimodal positions": [{ use_mrope: true }, "use_mrope"],
    dropout: [{ attention_dropout: 0.1 }, "attention_dropout", "expected 0, got 0.1"],
    "quantised weights": [{ quantization_config: { bits: 4 } }, "quantization_config"],
    "no layers": [{ num_hidden_layers: 0 }, "num_hidden_layers", "more than 0, got 0"],
    "a text for a number": [{ hidden_size: "64" }, "hidden_size", "expected number", '"64"'],
    "a broken number": [{ vocab_size: 10.5 }, "vocab_size", "expected int, got 10.5"],
    "heads that do not share keys evenly": [
      { num_key_value_heads: Number(published["num_attention_heads"]) + 1 },
      "num_key_value_heads",
      "divisor",
    ],
    "odd heads": [{ head_dim: 5 }, "even size"],
    "an end token beyond the vocabulary": [
      { eos_token_id: published["vocab_size"] },
      "eos_token_id",
      "below vocab_size",
    ],
  };
  for (const [what, [change, ...texts]] of Object.entries(refusals))
    test(`refuses ${what}`, async () => {
      parseConfig(published, "config.json");
      const error = await throwsMessage(() => parseConfig({ ...published, ...change }, "some/config.json"), ...texts);
      assert.instance(error, CheckpointError);
      assert.ok(error.message.startsWith("some/config.json: "));
    });

  test("names all faults at once", () =>
    throwsMessage(
      () => parseConfig(without(published, "hidden_size", "vocab_size"), "config.json"),
      "2 faults",
      "hidden_size",
      "vocab_size",
    ));

  for (const folder of folders)
    test(`${folder}: parameters have the names and shapes of the files`, async () => {
      const config = parseConfig(configOf(folder), folder);
      const expected = new Map<string, readonly number[]>();
      for (const name of readdirSync(fixturePath(folder)).filter((file) => file.endsWith(".safetensors"))) {
        const file = await openSafetensors(fixturePath(`${folder}/${name}`));
        for (const entry of file.tensors.values())
          expected.set(/^(model|lm_head)\./.test(entry.name) ? entry.name : `model.${entry.name}`, entry.shape);
        await file.close();
      }
      const shapes = qwen2ParameterShapes(config);
      assert.equal([...shapes].sort(), [...expected].sort());
    });

  for (const folder of ["qwen2-tiny", "qwen2-untied-odd"])
    test(`${folder}: parameters come in the order of PyTorch's named_parameters`, () => {
      const names = [...qwen2ParameterShapes(parseConfig(configOf(folder), folder)).keys()];
      assert.equal(names, Object.keys(readFixture<{ gradientNorms: Json }>(`${folder}.json`).gradientNorms));
    });

  test("linear weights are the matrices but the embedding", () => {
    const shapes = qwen2ParameterShapes(parseConfig(published, ""));
    for (const [name, shape] of shapes)
      assert.is(isLinearWeight(name), shape.length === 2 && name !== "model.embed_tokens.weight", name);
  });
});
