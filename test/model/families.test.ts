// A family of models from outside the program, as docs/extending/model-family.md says: the page's files are written into an
// empty folder and run as printed.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/index.ts";
import { openLanguageModel, parseConfig, registerModelFamily } from "../../model/index.ts";
import { qwen2 } from "../../model/qwen2.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(join(root, "docs/extending/model-family.md"), "utf8");
const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";

describe("model/families", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-family-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  // The clone that the page's files lie beside is this one.
  for (const [, name, text] of page.matchAll(/^`([\w.-]+)`:\n\n```\w+\n([\s\S]*?)^```$/gm))
    writeFileSync(join(place, name), text.replaceAll('"./foothold/', `"${root}`));

  function run(line: string): string {
    const words = line.replace("foothold/", root).split(" ").slice(1);
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      cwd: place,
      encoding: "utf8",
      env: { ...process.env, FOOTHOLD_ADAPTER: adapter },
    });
    if (status !== 0) throw new Error(`${line}: exit code ${status}: ${stderr}`);
    return stdout;
  }

  test("another family from outside: made, generated from and scored by the commands, and checked to the bit", () => {
    const [shell] = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text]) => text.trim().split("\n"));
    assert.is(shell.length, 3);
    const [, generated, scored] = shell.map(run);
    const { completions } = JSON.parse(generated) as { completions: { tokens: number[]; logProbs: number[] }[] };
    assert.is(completions.length, 2);
    for (const { tokens, logProbs } of completions) {
      assert.ok(tokens.length > 0 && tokens.length <= 12);
      for (const value of logProbs) assert.ok(value < 0, "a random model is sure of nothing");
    }
    const { sequences, meanNll } = JSON.parse(scored) as { sequences: { tokens: number[] }[]; meanNll: number };
    assert.equal(
      sequences.map(({ tokens }) => tokens),
      [
        [5, 9, 13, 2],
        [7, 7],
      ],
    );
    assert.ok(Math.abs(meanNll - Math.log(64)) < 2, `near the entropy of 64 equal tokens: ${meanNll}`);
    assert.match(run("node check.ts"), /^\d+ \+ \d+ \+ \d+ tokens: sampler and scorer agree to the bit\n$/);
    const written = JSON.parse(readFileSync(join(place, "random-gpt/config.json"), "utf8"));
    assert.equal(written.architectures, ["TinyGptForCausalLM"]);
  });

  test("without the registration the folder is refused by name", () =>
    throwsMessage(
      () => openLanguageModel({ model_type: "tiny-gpt" }, "folder/config.json"),
      'folder/config.json: model_type: expected "qwen2", got "tiny-gpt"',
    ).then((error) => assert.instance(error, CheckpointError)));

  test("what is no configuration is refused; a registration may be repeated, a name may not", async () => {
    for (const nothing of [null, 7, [], {}, { model_type: 3 }])
      await throwsMessage(
        () => openLanguageModel(nothing, "config.json"),
        'config.json: model_type: expected "qwen2", got',
      );
    registerModelFamily(qwen2);
    await throwsMessage(() => registerModelFamily({ ...qwen2 }), '"qwen2" already');
  });

  test("a copy with other facts is a model of these", () => {
    const path = fixturePath("qwen2-tiny/config.json");
    const json: object = JSON.parse(readFileSync(path, "utf8"));
    const model = openLanguageModel(json, path);
    assert.is(
      model.headName(),
      parseConfig(json, path).tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight",
    );
    for (const [tieWordEmbeddings, head] of [
      [true, "model.embed_tokens.weight"],
      [false, "lm_head.weight"],
    ] as const) {
      const copy = { ...model, tieWordEmbeddings };
      assert.is(copy.headName(), head);
      assert.is(copy.parameters().has("lm_head.weight"), !tieWordEmbeddings);
    }
  });
});
