// A model whose config.json ties the head to the embedding, and what its files may hold of the two: one, the other, both
// equal, both different. Right is what transformers 5 does (`tie_weights` in modeling_utils.py).
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/index.ts";
import { openConfig } from "../../model/checkpoint-files.ts";
import type { TensorToWrite } from "../../model/safetensors.ts";
import { loadModel, saveWeights } from "../../model/weights.ts";
import { describe } from "../support.ts";
import {
  changeTensors,
  copyOf,
  existing,
  readConfigOf,
  weightsOf,
  withCheckpoint,
  writeJson,
} from "./model-folders.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const embedding = "model.embed_tokens.weight";
const head = "lm_head.weight";

/** Puts a head into the file: the embedding, changed as asked. */
const addHead = (folder: string, changed: (data: Float32Array) => void): Promise<void> =>
  changeTensors(folder, (tensors) => {
    const tensor = existing(tensors, embedding);
    const data = Float32Array.from(tensor.data as Float32Array);
    changed(data);
    tensors.set(head, { ...tensor, name: head, data });
  });

/** What a model says of itself; its methods are closures of each. */
const facts = (config: object): string => JSON.stringify(config);

describe("model: tied heads", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-tied-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));

  test("an equal copy of the embedding is the embedding; saved rotary frequencies are left out", async () => {
    const folder = copyOf(scratch, "qwen2-tiny");
    const before = await weightsOf(folder);
    await addHead(folder, () => {});
    await changeTensors(folder, (tensors) => {
      const name = "model.layers.0.self_attn.rotary_emb.inv_freq";
      tensors.set(name, { name, dtype: "f32", shape: [1], data: new Float32Array(1) });
    });
    assert.equal(await weightsOf(folder), before);
    await withCheckpoint(folder, async ({ config, notes }) => {
      assert.is(config.tieWordEmbeddings, true);
      assert.equal(notes, []);
    });
  });

  test("the head alone stands for both, as safetensors' save_model stores it", async () => {
    const folder = copyOf(scratch, "qwen2-tiny");
    const before = await weightsOf(folder);
    await changeTensors(folder, (tensors) => {
      tensors.set(head, { ...existing(tensors, embedding), name: head });
      tensors.delete(embedding);
    });
    assert.equal(await weightsOf(folder), before);
    await withCheckpoint(folder, async ({ notes }) => assert.equal(notes, []));
  });

  test("a head that differs in one number is used, the model is untied, and a note says so", async () => {
    const [tied, untied] = [copyOf(scratch, "qwen2-tiny"), copyOf(scratch, "qwen2-tiny")];
    const change = (data: Float32Array): void => {
      data[data.length - 1] += 1;
    };
    for (const folder of [tied, untied]) await addHead(folder, change);
    writeJson(untied, "config.json", { ...readConfigOf(untied), tie_word_embeddings: false });

    const notes: string[] = [];
    const load = async (folder: string) =>
      loadModel(new CpuBackend(), folder, { note: (sentence) => void notes.push(sentence) });
    const loaded = await load(tied);
    assert.is(notes.length, 1);
    for (const text of [tied, "tie_word_embeddings", "differ", "untied"]) assert.ok(notes[0].includes(text), notes[0]);
    const meant = await load(untied);
    assert.is(notes.length, 1, "declared untied: nothing to say");
    assert.is(facts(loaded.config), facts(meant.config));
    assert.is(loaded.config.tieWordEmbeddings, false);
    assert.equal(await loaded.weights.read(), await meant.weights.read());
    assert.is(facts((await openConfig(tied)).config), facts(loaded.config), "the plan of a run is of what is loaded");

    // What is written from it holds both.
    const saved = join(scratch, "saved");
    await saveWeights(loaded.weights, saved, tied);
    assert.is(readConfigOf(saved)["tie_word_embeddings"], false);
    assert.equal(await weightsOf(saved), await weightsOf(untied));
    const exported = join(scratch, "exported");
    const run = spawnSync(process.execPath, ["model/export.ts", "--model", tied, "--out", exported], {
      cwd: root,
      encoding: "utf8",
    });
    assert.is(run.status, 0, run.stderr);
    assert.ok(run.stderr.includes("untied"), run.stderr);
    assert.is(readConfigOf(exported)["tie_word_embeddings"], false);
    assert.equal(await weightsOf(exported), await weightsOf(untied));
  });

  test("copies in two dtypes are one tensor while their numbers are equal; NaN is never equal", async () => {
    const folder = copyOf(scratch, "qwen2-tiny-bare-f16");
    const asStored = async (change: (tensor: TensorToWrite) => void): Promise<boolean> => {
      await changeTensors(folder, (tensors) => {
        const source = existing(tensors, "embed_tokens.weight");
        const wide = {
          ...source,
          name: head,
          dtype: "f32" as const,
          data: Float32Array.from(source.data as Float32Array),
        };
        change(wide);
        tensors.set(head, wide);
      });
      return withCheckpoint(folder, async ({ config }) => config.tieWordEmbeddings);
    };
    assert.is(await asStored(() => {}), true);
    assert.is(
      await asStored(({ data }) => {
        (data as Float32Array)[0] = Number.NaN;
      }),
      false,
    );
  });
});
