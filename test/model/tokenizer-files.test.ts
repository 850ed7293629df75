// Small tokenizers against PyPI's tokenizers and transformers (known/tokenizers.py made the answers): where a text is cut,
// and which tokens the files beside tokenizer.json add. Then a tokenizer and a model that do not fit.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/errors.ts";
import { loadTokenizer } from "../../model/tokenizer.ts";
import { describe, throwsMessage } from "../support.ts";
import { copyOf, readConfigOf, writeJson } from "./model-folders.ts";

interface Parts {
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: unknown;
  hasStandardTokens: boolean;
  addedTokens: object[];
}
interface Known {
  vocabulary: string[];
  merges: [string, string][];
  standardTokens: object[];
  decoder: object;
  texts: string[];
  cuts: { name: string; tokenizer: Parts; ids: number[][] }[];
  files: {
    name: string;
    tokenizer: Parts;
    config: object;
    specialTokensMap: object | null;
    addedTokens: object | null;
    texts: { text: string; ids: number[]; promptIds: number[]; withoutSpecial: string }[];
  }[];
}
const root = fileURLToPath(new URL("../..", import.meta.url));
const known: Known = JSON.parse(readFileSync(new URL("known/tokenizers.json", import.meta.url), "utf8"));

describe("model/tokenizer: files", (test) => {
  const scratch = mkdtempSync(join(tmpdir(), "foothold-tokenizers-"));
  test.after(() => rmSync(scratch, { recursive: true, force: true }));
  let folders = 0;

  function folderOf(parts: Parts, files: Record<string, object | null> = {}): string {
    const folder = join(scratch, String(folders++));
    mkdirSync(folder);
    const { normalizer, pre_tokenizer, post_processor, hasStandardTokens, addedTokens } = parts;
    const vocab = Object.fromEntries(known.vocabulary.map((token, id) => [token, id]));
    writeJson(folder, "tokenizer.json", {
      ...{ version: "1.0", normalizer, pre_tokenizer, post_processor, decoder: known.decoder },
      added_tokens: [...(hasStandardTokens ? known.standardTokens : []), ...addedTokens],
      model: { type: "BPE", vocab, merges: known.merges, unk_token: null, fuse_unk: false, byte_fallback: false },
    });
    for (const [name, content] of Object.entries(files)) if (content !== null) writeJson(folder, name, content);
    return folder;
  }
  const plain = (): Parts => known.cuts[0].tokenizer;

  for (const { name, tokenizer: parts, ids } of known.cuts)
    test(`cut as the Rust library cuts: ${name}`, async () => {
      const tokenizer = await loadTokenizer(folderOf(parts));
      for (const [i, text] of known.texts.entries()) assert.equal(tokenizer.encode(text), ids[i], JSON.stringify(text));
    });

  test("SmolLM2: U+FEFF is no white space, U+0085 is", async () => {
    const smol = known.cuts.find(({ name }) => name === "SmolLM2");
    const tokenizer = await loadTokenizer(folderOf(smol?.tokenizer ?? plain()));
    assert.equal(tokenizer.encode("\ufeff's"), [186, 136, 140, 23, 99]);
    assert.is(tokenizer.encode("\u0085's").length, 3, "two bytes, and 's");
  });

  for (const { name, tokenizer: parts, config, specialTokensMap, addedTokens, texts } of known.files)
    test(`added tokens as transformers adds them: ${name}`, async () => {
      const folder = folderOf(parts, {
        "tokenizer_config.json": config,
        "special_tokens_map.json": specialTokensMap,
        "added_tokens.json": addedTokens,
      });
      const tokenizer = await loadTokenizer(folder);
      for (const { text, ids, promptIds, withoutSpecial } of texts) {
        assert.equal(tokenizer.encode(text), ids, text);
        assert.equal(tokenizer.encodePrompt(text), promptIds, text);
        assert.is(tokenizer.decode(ids, { skipSpecialTokens: true }), withoutSpecial, text);
      }
    });

  test("a new token whose id leaves a gap is refused, since transformers would give it another", async () => {
    const next = known.vocabulary.length;
    const config = { added_tokens_decoder: { [next + 5]: { content: "<|x|>" } } };
    const texts = ["added_tokens_decoder", `next free id, ${next}`, '"<|x|>"', `got ${next + 5}`];
    await throwsMessage(() => loadTokenizer(folderOf(plain(), { "tokenizer_config.json": config })), ...texts);
    await throwsMessage(
      () => loadTokenizer(folderOf(plain(), { "tokenizer_config.json": { added_tokens_decoder: { a: 1 } } })),
      "added_tokens_decoder: expected the form",
    );
  });

  test("ways of splitting that the package has not are refused by name", async () => {
    for (const behavior of ["MergedWithPrevious", "MergedWithNext", "Contiguous"]) {
      const pre_tokenizer = { type: "Split", pattern: { Regex: "\\s" }, behavior, invert: false };
      await throwsMessage(() => loadTokenizer(folderOf({ ...plain(), pre_tokenizer })), "pre_tokenizer", behavior);
    }
  });

  test("a byte order mark in front of any of the files is no part of it", async () => {
    const { tokenizer: parts, config, texts } = known.files[1];
    const folder = folderOf(parts, { "tokenizer_config.json": config });
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      writeFileSync(join(folder, name), `\ufeff${readFileSync(join(folder, name), "utf8")}`);
    assert.equal((await loadTokenizer(folder)).encode(texts[0].text), texts[0].ids);
  });

  test("a tokenizer with more tokens than the model has rows: the same words everywhere, and nothing is written", async () => {
    const model = copyOf(scratch, "tiny-warm-start");
    const rows = Number(readConfigOf(model)["vocab_size"]);
    writeJson(model, "config.json", { ...readConfigOf(model), vocab_size: rows - 300, eos_token_id: 0 });
    rmSync(join(model, "generation_config.json"));
    const texts = [`${model}: tokenizer.json has the id `, `config.json gives the model only ${rows - 300} rows`];
    assert.instance(await throwsMessage(() => loadTokenizer(model), ...texts), CheckpointError);
    const out = join(scratch, "never");
    for (const command of [
      ["landscape/run.ts", "tiny", "--model.path", model, "--out", out],
      ["rl/warm-start.ts", "--model.path", model, "--out", out],
      ["model/generate.ts", "--model", model, "--prompt", "a"],
    ]) {
      const run = spawnSync(process.execPath, command, { cwd: root, encoding: "utf8" });
      assert.is(run.status, 2, `${command[0]}: ${run.stderr}`);
      assert.not(/\n\s+at /.test(run.stderr), run.stderr);
      for (const file of ["config.toml", "provenance.json", "log.jsonl", "state"])
        assert.not(existsSync(join(out, file)), `${command[0]} wrote ${file}`);
    }
  });

  test("an added token beyond the model's rows is refused where a text has it", async () => {
    const { tokenizer: parts, config } = known.files[1];
    const rows = known.vocabulary.length;
    const folder = folderOf(parts, { "tokenizer_config.json": config, "config.json": { vocab_size: rows } });
    const tokenizer = await loadTokenizer(folder);
    assert.ok(tokenizer.encode("the end").every((id) => id < rows));
    for (const encode of [() => tokenizer.encode("a<|x|>"), () => tokenizer.encodePrompt("a<|x|>")])
      assert.instance(
        await throwsMessage(encode, folder, '"<|x|>"', `whose id is ${rows}`, `${rows} rows`),
        CheckpointError,
      );
  });

  test("a model in the cache that lacks its tokenizer: go online once, do not write into the cache", async () => {
    const snapshot = join(scratch, "models--ORG--NAME", "snapshots", "0123456789abcdef".repeat(3).slice(0, 40));
    mkdirSync(snapshot, { recursive: true });
    const error = await throwsMessage(() => loadTokenizer(snapshot), "not found", "HF_HUB_OFFLINE", "unset it once");
    assert.not(error.message.includes("beside the model"), error.message);
    await throwsMessage(() => loadTokenizer(scratch), "Save the tokenizer beside the model");
  });
});
