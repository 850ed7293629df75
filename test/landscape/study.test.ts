// A study whose chat template opens a thought in front of each answer: with one turn it runs, and its checkpoints name what
// ended an answer; with two it is refused for what is wrong, before a model is loaded and before its folder is claimed.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { describe, fixturePath } from "../support.ts";
import { expectDone, runStudy } from "./tiny-study.ts";

describe("landscape/study", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-study-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const model = join(place, "thinking");
  cpSync(fixturePath("tiny-warm-start"), model, { recursive: true });
  const chat_template =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}" +
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";
  const config = JSON.parse(readFileSync(join(model, "tokenizer_config.json"), "utf8"));
  writeFileSync(join(model, "tokenizer_config.json"), JSON.stringify({ ...config, chat_template }));
  // As a base model's: <|endoftext|>, while the template ends turns with <|im_end|>.
  const [endOfText, endOfTurn] = [256, 258];
  writeFileSync(join(model, "generation_config.json"), JSON.stringify({ eos_token_id: endOfText }));

  test("two turns are refused, and the folder is not claimed", async () => {
    const out = join(place, "two");
    const { status, stdout, stderr } = await runStudy(out, { "model.path": model });
    assert.is(status, 2, stderr);
    assert.is(stdout, "");
    for (const text of ["CheckpointError", "tokenizer_config.json", '"<think>\\n"', "over several turns", "one-turn"])
      assert.ok(stderr.includes(text), `${text} in ${stderr}`);
    assert.equal(existsSync(out) ? readdirSync(out) : [], []);
  });

  test("one turn runs", async () => {
    const out = join(place, "one");
    const turns = { "environment.alphabet-sort.minTurns": "1", "environment.alphabet-sort.maxTurns": "1" };
    const cut = { "train.steps": "1", "train.checkpoints": "0,1", "landscape.steps": "1", "landscape.points": "2" };
    expectDone(await runStudy(out, { ...turns, ...cut, "model.path": model }));
    const kept = readFileSync(join(out, "checkpoints/step-000001/generation_config.json"), "utf8");
    assert.equal(JSON.parse(kept), { eos_token_id: [endOfTurn, endOfText] });
  });
});
