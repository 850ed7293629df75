import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { type Chat, loadChat } from "../../../../model/chat.ts";
import { parseConfig, parseGenerationConfig, qwen2ParameterShapes } from "../../../../model/config.ts";
import { loadTokenizer } from "../../../../model/tokenizer.ts";
import { alphabetSort } from "../../../../rl/environments/alphabet-sort.ts";
import { generatedNames } from "../../../../rl/environments/names.ts";
import { workedDialogue } from "../../../../rl/environments/worked-dialogues.ts";
import { tinyFiles } from "../../../../rl/presets/tiny/make-tokenizer.ts";
import { describe, fixturePath, readFixture } from "../../../support.ts";

const folder = mkdtempSync(join(tmpdir(), "foothold-tiny-"));
for (const [name, text] of tinyFiles()) writeFileSync(join(folder, name), text);
const load = async (from: string): Promise<Chat> => loadChat(from, await loadTokenizer(from));
const [ours, reference] = [await load(folder), await load(fixturePath("tiny-warm-start"))];

/** A seeded stream of whole numbers below `n`: Numerical Recipes' linear congruential generator. */
function randomBelow(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** What the tokenizer means, without the package: the leftmost added token, of several the longest; bytes between them. */
function encodePlainly(text: string): number[] {
  const { added_tokens, model } = JSON.parse(tinyFiles().get("tokenizer.json") ?? "") as {
    added_tokens: { id: number; content: string }[];
    model: { vocab: Record<string, number> };
  };
  const longestFirst = added_tokens.toSorted((a, b) => b.content.length - a.content.length);
  // Printable bytes stand for themselves; the tests below use no other outside added tokens, but space and newline.
  const ofByte = (byte: number) => model.vocab[byte === 0x20 ? "Ġ" : byte === 0x0a ? "Ċ" : String.fromCharCode(byte)];
  const ids: number[] = [];
  for (let at = 0; at < text.length; ) {
    const found = longestFirst.find(({ content }) => text.startsWith(content, at));
    ids.push(found?.id ?? ofByte(text.charCodeAt(at)));
    at += found?.content.length ?? 1;
  }
  return ids;
}

describe("rl/presets/tiny/make-tokenizer", (test) => {
  test.after(() => rmSync(folder, { recursive: true }));

  const environment = alphabetSort(generatedNames(), {
    minTurns: 2,
    maxTurns: 2,
    minNamesPerTurn: 1,
    maxNamesPerTurn: 3,
  });

  test("400 conversations of the task have the ids of the checkpoint made with PyTorch", () => {
    for (let index = 0; index < 400; index++) {
      const messages = workedDialogue(environment, { seed: 7, dropTags: 0.5 }, index);
      const expected = reference.dialogue(messages);
      assert.equal(ours.dialogue(messages), expected);
      // In whole or in parts: the same ids.
      const text = ours.render(messages, { addGenerationPrompt: false });
      assert.is(text, reference.render(messages, { addGenerationPrompt: false }));
      assert.equal(ours.tokenizer.encode(text).slice(0, -1), expected.ids);
      assert.is(ours.tokenizer.decode(ours.tokenizer.encode(text)), text);
    }
  });

  test("a conversation with all its tags is about 73 tokens long, an answer at most 23", () => {
    let tokens = 0;
    for (let index = 0; index < 400; index++) {
      const messages = workedDialogue(environment, { seed: 7, dropTags: 0 }, index);
      tokens += ours.dialogue(messages).ids.length;
      for (const { role, content } of messages)
        if (role === "assistant") assert.ok(ours.tokenizer.encode(content).length + 1 <= 23, content);
    }
    // The mean over 4000 conversations is 72.99, one deviates by 11: 400 of them stay within 1 of 73 but for one in 14.
    assert.ok(Math.abs(tokens / 400 - 73) < 1, `${tokens / 400} tokens`);
  });

  test("names that are no tokens go byte by byte, and come back", () => {
    interface Case {
      episodes: { prompt: string; followUps: string[]; scored: { completions: string[] }[] }[];
    }
    for (const { episodes } of readFixture<Case[]>("alphabet-sort.json"))
      for (const { prompt, followUps, scored } of episodes)
        for (const text of [prompt, ...followUps, ...scored.flatMap(({ completions }) => completions)]) {
          const ids = ours.tokenizer.encode(text);
          assert.equal(ids, reference.tokenizer.encode(text));
          assert.is(ours.tokenizer.decode(ids), text.normalize("NFC"));
        }
  });

  test("the leftmost added token is taken, of several the longest", () => {
    const { added_tokens } = JSON.parse(tinyFiles().get("tokenizer.json") ?? "") as {
      added_tokens: { content: string }[];
    };
    const below = randomBelow(1);
    for (let round = 0; round < 2000; round++) {
      // Tokens and pieces of tokens, run into each other.
      let text = "";
      for (let part = 0; part < 6; part++) {
        const { content } = added_tokens[below(added_tokens.length)];
        const start = below(2) * below(content.length);
        text += content.slice(start, below(2) === 0 ? content.length : start + 1 + below(content.length - start));
      }
      assert.equal(ours.tokenizer.encode(text), encodePlainly(text), JSON.stringify(text));
    }
  });

  test("the model is the one of the checkpoint made with PyTorch", () => {
    const parse = (text: string, name: string) => parseConfig(JSON.parse(text), name);
    const theirs = (name: string) => readFileSync(fixturePath(`tiny-warm-start/${name}`), "utf8");
    const config = parse(tinyFiles().get("config.json") ?? "", "config.json");
    assert.equal(config, parse(theirs("config.json"), "config.json"));
    assert.is(config.vocabSize, ours.tokenizer.size);
    let parameters = 0;
    for (const shape of qwen2ParameterShapes(config).values()) parameters += shape.reduce((a, b) => a * b, 1);
    assert.is(parameters, 122_624);
    const generation = parseGenerationConfig(JSON.parse(tinyFiles().get("generation_config.json") ?? ""), "ours");
    assert.equal(generation, parseGenerationConfig(JSON.parse(theirs("generation_config.json")), "theirs"));
    assert.ok(generation.eosTokenIds.includes(ours.endTokenId));
  });

  test("the files in the repository are the ones that the script writes", () => {
    const checkpoint = fileURLToPath(new URL("../../../../rl/presets/tiny/checkpoint", import.meta.url));
    for (const [name, text] of tinyFiles()) assert.is(readFileSync(join(checkpoint, name), "utf8"), text, name);
  });
});
