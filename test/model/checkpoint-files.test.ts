import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { ShapeError } from "../../engine/errors.ts";
import { CheckpointError } from "../../engine/host/errors.ts";
import { modelFiles, openCheckpoint, tokenizerFiles } from "../../model/checkpoint-files.ts";
import { openSafetensors } from "../../model/safetensors.ts";
import { writeCheckpoint, writtenDtypes } from "../../model/write-checkpoint.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import {
  writeJson as change,
  changeTensors,
  readConfigOf as config,
  copyOf as copyFixture,
  existing,
  weightsOf,
  withCheckpoint,
} from "./model-folders.ts";

const scratch = mkdtempSync(join(tmpdir(), "foothold-checkpoint-"));
const copyOf = (name: string): string => copyFixture(scratch, name);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
// https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/blob/main/config.json, all but transformers_version.
const publishedKeys =
  "architectures attention_dropout bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size " +
  "max_position_embeddings max_window_layers model_type num_attention_heads num_hidden_layers num_key_value_heads " +
  "rms_norm_eps rope_theta sliding_window tie_word_embeddings torch_dtype use_cache use_sliding_window vocab_size";
const refuses = async (folder: string, ...texts: string[]) =>
  assert.instance(await throwsMessage(() => openCheckpoint(folder), ...texts), CheckpointError);

describe("model/checkpoint-files", (test) => {
  test.after(() => rmSync(scratch, { recursive: true }));

  for (const name of ["qwen2-tiny", "qwen2-untied-odd", "tiny-warm-start"])
    test(`${name}: tensors are those of the file`, () =>
      withCheckpoint(fixturePath(name), async (checkpoint) => {
        const file = await openSafetensors(fixturePath(`${name}/model.safetensors`));
        for (const [parameter, shape] of checkpoint.shapes) {
          const weight = await checkpoint.tensor(parameter);
          assert.equal(weight, { shape, dtype: "f32", data: await file.readFloat32(parameter) });
          const pieces: number[] = [];
          for await (const { start, data } of checkpoint.chunks(parameter, 1000)) {
            assert.is(start, pieces.length);
            pieces.push(...data);
          }
          assert.equal(pieces, [...weight.data]);
        }
        await file.close();
      }));

  test("shards and names without prefix give the weights of the one file, rounded", async () => {
    const whole = await weightsOf(fixturePath("qwen2-tiny"));
    const bf16 = await weightsOf(fixturePath("qwen2-tiny-bf16-sharded"));
    const f16 = await weightsOf(fixturePath("qwen2-tiny-bare-f16"));
    assert.equal([...bf16.keys()], [...whole.keys()]);
    assert.equal([...f16.keys()], [...whole.keys()]);
    for (const [name, data] of whole)
      data.forEach((x, i) => {
        // Half a unit in the last place: 8 bits of precision in bf16, 11 in f16, whose subnormals count 2⁻²⁴.
        assert.ok(Math.abs((bf16.get(name)?.[i] ?? Number.NaN) - x) <= Math.abs(x) * 2 ** -8, `${name}[${i}]`);
        assert.ok(
          Math.abs((f16.get(name)?.[i] ?? Number.NaN) - x) <= Math.max(Math.abs(x) * 2 ** -11, 2 ** -25),
          `${name}[${i}]`,
        );
      });
  });

  test("end tokens come from generation_config.json where it names any", async () => {
    const folder = copyOf("tiny-warm-start");
    const tokens = () => withCheckpoint(folder, async (checkpoint) => checkpoint.config.eosTokenIds);
    const { eos_token_id } = JSON.parse(readFileSync(join(folder, "generation_config.json"), "utf8"));
    assert.equal(await tokens(), eos_token_id);
    change(folder, "generation_config.json", { temperature: 1 });
    assert.equal(await tokens(), [config(folder)["eos_token_id"]]);
    rmSync(join(folder, "generation_config.json"));
    assert.equal(await tokens(), [config(folder)["eos_token_id"]]);
  });

  test("missing, surplus and misshaped tensors are named at once", async () => {
    const folder = copyOf("qwen2-untied-odd");
    await changeTensors(folder, (tensors) => {
      tensors.delete("lm_head.weight");
      tensors.delete("model.layers.1.mlp.up_proj.weight");
      tensors.set("extra", { name: "extra", dtype: "f32", shape: [2], data: new Float32Array(2) });
      tensors.set("norm.weight", { name: "norm.weight", dtype: "f32", shape: [1], data: new Float32Array(1) });
      const name = "model.layers.0.input_layernorm.weight";
      tensors.set(name, { name, dtype: "f32", shape: [3], data: new Float32Array(3) });
      const bias = existing(tensors, "model.layers.0.self_attn.q_proj.bias");
      tensors.set(bias.name, { ...bias, dtype: "i32", data: new Int32Array(bias.shape[0]) });
    });
    const hidden = config(folder)["hidden_size"];
    await refuses(
      folder,
      "7 faults",
      '"lm_head.weight" [',
      '"model.layers.1.mlp.up_proj.weight" [',
      '"extra" [2] is not a parameter',
      '"norm.weight" is stored twice',
      `"model.layers.0.input_layernorm.weight" is [3], config.json gives [${hidden}]`,
      '"model.layers.0.self_attn.q_proj.bias" is stored as i32',
    );
  });

  test("weights of another size than config.json says are refused", async () => {
    const folder = copyOf("qwen2-tiny");
    change(folder, "config.json", { ...config(folder), intermediate_size: 10 });
    await refuses(folder, "mlp.up_proj.weight", "config.json gives [10,", "from one model");
  });

  test("a shard that is missing, or elsewhere, is named", async () => {
    const folder = copyOf("qwen2-tiny-bf16-sharded");
    const shard = readdirSync(folder).filter((name) => name.endsWith(".safetensors"))[1];
    rmSync(join(folder, shard));
    await refuses(folder, shard, "is not there", "interrupted");
    change(folder, "model.safetensors.index.json", { weight_map: { x: "../model.safetensors" } });
    await refuses(folder, '"../model.safetensors"');
    change(folder, "model.safetensors.index.json", [1]);
    await refuses(folder, "weight_map");
  });

  test("what is no model folder is told apart", async () => {
    const folder = copyOf("qwen2-tiny");
    await refuses(join(scratch, "absent"), "absent", "ENOENT");
    rmSync(join(folder, "model.safetensors"));
    await refuses(folder, "model.safetensors", "found neither");
    writeFileSync(join(folder, "pytorch_model.bin"), "");
    await refuses(folder, "pytorch_model.bin");
    writeFileSync(join(folder, "config.json"), "{");
    await refuses(folder, "config.json", "JSON");
    rmSync(join(folder, "config.json"));
    await refuses(folder, "config.json is missing");
  });

  test("a folder of checkpoints names them, in numeric order; other folders do not count", async () => {
    const parent = mkdtempSync(join(scratch, "run-"));
    for (const step of [500, 1000, 20])
      cpSync(fixturePath("qwen2-tiny"), join(parent, `checkpoint-${step}`), { recursive: true });
    mkdirSync(join(parent, "logs"));
    const listed = [20, 500, 1000].map((step) => join(parent, `checkpoint-${step}`)).join(", ");
    await refuses(parent, "holds several models", `Name one of them: ${listed}`);
    // One level deeper: the folder of a run.
    const outer = mkdtempSync(join(scratch, "outer-"));
    mkdirSync(join(outer, "checkpoints"));
    cpSync(fixturePath("qwen2-tiny"), join(outer, "checkpoints", "step-000020"), { recursive: true });
    await refuses(outer, join(outer, "checkpoints", "step-000020"));
  });

  test("a model is its configuration, weights and tokenizer, whatever else lies beside", async () => {
    const whole = copyOf("tiny-warm-start");
    const files = [
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ];
    assert.equal(await modelFiles(whole), files);
    for (const name of [
      "trainer_state.json",
      "optimizer.safetensors",
      "all_results.json",
      "model.safetensors.index.json",
    ])
      writeFileSync(join(whole, name), "{}");
    assert.equal(await modelFiles(whole), files);
    const sharded = copyOf("qwen2-tiny-bf16-sharded");
    assert.equal(await modelFiles(sharded), readdirSync(sharded).sort());
  });

  test("byte order marks in front of JSON are no part of it", async () => {
    const folder = copyOf("qwen2-tiny-bf16-sharded");
    const expected = await weightsOf(folder);
    for (const name of ["config.json", "generation_config.json", "model.safetensors.index.json"]) {
      const path = join(folder, name);
      writeFileSync(path, `\ufeff${readFileSync(path, "utf8")}`);
    }
    assert.equal(await weightsOf(folder), expected);
  });

  for (const name of ["qwen2-tiny", "qwen2-untied-odd"])
    test(`${name}: written again, it is the folder that transformers wrote`, async () => {
      const source = fixturePath(name);
      const folder = join(scratch, `again-${name}`);
      const tensors = [...(await weightsOf(source))].map(([tensor, data]) => ({
        name: tensor,
        data: async () => data,
      }));
      await writeCheckpoint(folder, { configJson: config(source), tensors: tensors.reverse(), filesFrom: source });
      assert.equal(readdirSync(folder).sort(), readdirSync(source).sort());
      for (const file of ["model.safetensors", "generation_config.json"])
        assert.ok(readFileSync(join(folder, file)).equals(readFileSync(join(source, file))), file);
      const written = config(folder);
      for (const [key, value] of Object.entries(config(source)))
        if (value !== null) assert.equal(written[key], value, key);
      assert.equal(
        publishedKeys.split(" ").filter((key) => !(key in written)),
        [],
      );
      // Sizes of a window that is not used: no loader may stumble over null, nor cut anything.
      assert.is(written["sliding_window"], config(source)["sliding_window"] ?? written["max_position_embeddings"]);
      assert.is(written["use_sliding_window"], false);
    });

  for (const [dtype, reference, name] of [
    ["bf16", "qwen2-tiny-bf16-sharded", "bfloat16"],
    ["f16", "qwen2-tiny-bare-f16", "float16"],
  ] as const)
    test(`writes ${dtype}, and config.json says so`, async () => {
      const source = fixturePath("qwen2-tiny");
      const folder = join(scratch, dtype);
      const tensors = [...(await weightsOf(source))].map(([tensor, data]) => ({ name: tensor, data }));
      await writeCheckpoint(folder, { configJson: config(fixturePath(reference)), tensors, dtype });
      assert.equal(await weightsOf(folder), await weightsOf(fixturePath(reference)));
      const written = config(folder);
      assert.is(written["dtype"] ?? written["torch_dtype"], name);
      assert.equal(written["architectures"], ["Qwen2ForCausalLM"]);
    });

  test("shards, their names and their index are those that transformers wrote, byte for byte", async () => {
    const source = fixturePath("qwen2-tiny-bf16-sharded");
    const folder = join(scratch, "sharded");
    const weightFiles = readdirSync(source).filter((name) => name.includes(".safetensors"));
    // The limit that transformers was given lies between its fullest shard and what one more tensor would have made of it.
    let shardBytes = 0;
    for (const name of weightFiles.filter((file) => file.endsWith(".safetensors"))) {
      const file = await openSafetensors(join(source, name));
      const sizes = [...file.tensors.values()].map(({ byteLength }) => byteLength);
      await file.close();
      if (sizes.length > 1) shardBytes = Math.max(shardBytes, sum(sizes));
    }
    const tensors = [...(await weightsOf(source))].map(([name, data]) => ({ name, data }));
    await writeCheckpoint(folder, { configJson: config(source), tensors, dtype: "bf16", shardBytes });
    assert.ok(weightFiles.length > 2);
    assert.equal(readdirSync(folder).sort(), [...weightFiles, "config.json"].sort());
    for (const name of weightFiles)
      assert.ok(readFileSync(join(folder, name)).equals(readFileSync(join(source, name))), name);
  });

  for (const name of ["qwen2-tiny", "qwen2-untied-odd"])
    for (const dtype of writtenDtypes)
      test(`${name} in ${dtype}: one file or shards of any size, the same weights`, async () => {
        const source = fixturePath(name);
        const tensors = [...(await weightsOf(source))].map(([tensor, data]) => ({ name: tensor, data }));
        const bytes = tensors.map(({ data }) => data.length * (dtype === "f32" ? 4 : 2));
        const written = async (
          shardBytes: number,
        ): Promise<{ files: string[]; weights: Map<string, Float32Array> }> => {
          const folder = join(scratch, `${name}-${dtype}-${shardBytes}`);
          await writeCheckpoint(folder, { configJson: config(source), tensors, dtype, shardBytes });
          const files = readdirSync(folder).filter((file) => file.startsWith("model"));
          for (const file of files.filter((one) => one.endsWith(".safetensors"))) {
            const opened = await openSafetensors(join(folder, file));
            assert.equal([...opened.metadata], [["format", "pt"]]);
            const sizes = [...opened.tensors.values()].map(({ byteLength }) => byteLength);
            assert.ok(sizes.length === 1 || sum(sizes) <= shardBytes, `${file}: ${sum(sizes)} bytes`);
            await opened.close();
          }
          return { files, weights: await weightsOf(folder) };
        };
        const whole = await written(sum(bytes));
        assert.equal(whole.files, ["model.safetensors"]);
        if (dtype === "f32") assert.equal(whole.weights, await weightsOf(source));
        const two = await written(sum(bytes) - 1);
        assert.equal(
          two.files,
          [1, 2].map((i) => `model-0000${i}-of-00002.safetensors`).concat("model.safetensors.index.json"),
        );
        const many = await written(1);
        assert.is(many.files.length, tensors.length + 1, "a file for each tensor, and the index");
        assert.equal(two.weights, whole.weights);
        assert.equal(many.weights, whole.weights);
      });

  test("the tokenizer's files are copied byte for byte, others are not", async () => {
    const source = copyOf("tiny-warm-start");
    writeFileSync(join(source, "notes.txt"), "not a model file");
    writeFileSync(join(source, "chat_template.jinja"), "{{ messages }}");
    const folder = join(scratch, "with-tokenizer");
    const tensors = [...(await weightsOf(source))].map(([name, data]) => ({ name, data }));
    await writeCheckpoint(folder, {
      configJson: config(source),
      tensors,
      filesFrom: source,
      generationConfigJson: { eos_token_id: 5 },
    });
    assert.not(readdirSync(folder).includes("notes.txt"));
    const copied = tokenizerFiles.filter((name) => readdirSync(source).includes(name));
    assert.ok(copied.includes("tokenizer.json") && copied.includes("chat_template.jinja"));
    for (const name of copied)
      assert.ok(readFileSync(join(folder, name)).equals(readFileSync(join(source, name))), name);
    assert.equal(await withCheckpoint(folder, async (c) => c.config.eosTokenIds), [5]);
  });

  test("a failed write leaves what was there", async () => {
    const source = fixturePath("qwen2-untied-odd");
    const folder = join(scratch, "failing", "checkpoint");
    const tensors = [...(await weightsOf(source))].map(([name, data]) => ({ name, data }));
    const write = (changed: typeof tensors) =>
      writeCheckpoint(folder, { configJson: config(source), tensors: changed });
    await write(tensors);
    const before = readFileSync(join(folder, "model.safetensors"));
    const [first, ...rest] = tensors;
    await throwsMessage(() => write([{ ...first, data: first.data.subarray(1) }, ...rest]), first.name, "elements");
    for (const [changed, text] of [
      [rest, `${first.name} was not given`],
      [[...tensors, first], "1 names were given twice"],
      [[...tensors, { ...first, name: "extra" }], "extra is not a parameter"],
    ] as const)
      assert.instance(await throwsMessage(() => write([...changed]), text), ShapeError);
    assert.ok(readFileSync(join(folder, "model.safetensors")).equals(before));
    assert.equal(readdirSync(join(scratch, "failing")), ["checkpoint"]);
  });

  test("a kill at any moment leaves the old folder or the new one, never a half", async () => {
    const source = fixturePath("tiny-warm-start");
    const parent = mkdtempSync(join(scratch, "killed-"));
    const folder = join(parent, "step");
    const module = fileURLToPath(new URL("../../model/index.ts", import.meta.url));
    // Writes the fixture with every weight set to `value`.
    const write = (value: number, killAt: string) =>
      spawnSync(
        process.execPath,
        [
          "--input-type=module",
          "-e",
          `const { openCheckpoint, writeCheckpoint } = await import(${JSON.stringify(module)});
           const { shapes, configJson } = await openCheckpoint(${JSON.stringify(source)});
           const tensors = [...shapes].map(([name, s]) => ({ name, data: new Float32Array(s[0] * (s[1] ?? 1)).fill(${value}) }));
           await writeCheckpoint(${JSON.stringify(folder)}, { configJson, tensors, filesFrom: ${JSON.stringify(source)} });
           process.exit(0);`,
        ],
        { env: { ...process.env, FOOTHOLD_KILL_AT: killAt }, encoding: "utf8" },
      );
    const valueIn = async (name: string) => (await weightsOf(join(parent, name))).get("model.norm.weight")?.[0];

    assert.is(write(1, "").status, 0);
    assert.is(await valueIn("step"), 1);
    for (const killAt of ["write-atomic:1", "write-atomic:4", "write-folder:1"]) {
      assert.is(write(2, killAt).signal, "SIGKILL", killAt);
      assert.is(await valueIn("step"), 1, killAt);
    }
    assert.is(write(3, "replace-folder:1").signal, "SIGKILL");
    assert.equal(readdirSync(parent).sort(), [".step.partial", ".step.replaced"]);
    assert.is(await valueIn(".step.replaced"), 1);
    assert.is(await valueIn(".step.partial"), 3);
    assert.is(write(4, "").status, 0);
    assert.is(write(5, "").status, 0);
    assert.is(await valueIn("step"), 5);
    assert.equal(readdirSync(parent), ["step"]);
  });
});
