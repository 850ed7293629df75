// Text on a terminal, as it is generated: node model/generate.ts in a pseudo-terminal, with a model that is made to say a given
// text whose characters take several tokens each. What was shown is that text, whole; it is shown while the model goes on.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import {
  loadTokenizer,
  openLanguageModel,
  parameterShapes,
  type Tokenizer,
  writeCheckpoint,
} from "../../model/index.ts";
import { describe, fixturePath } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";
const hasTerminal = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") ?? false;

/** Characters of two, three and four bytes whose tokens are all different: each can then name the one that follows it. */
function sayable(tokenizer: Tokenizer): { start: number; ids: number[]; text: string } {
  const ids: number[] = [];
  let text = "";
  for (const character of "é日😀ñ語🚀ф中👩ß한🎈") {
    const own = tokenizer.encode(character);
    if (own.some((id, i) => ids.includes(id) || own.indexOf(id) !== i)) continue;
    ids.push(...own);
    text += character;
  }
  const start = Array.from({ length: tokenizer.size }, (_, id) => id).find(
    (id) =>
      !ids.includes(id) && tokenizer.decode([id]).trim() === tokenizer.decode([id]) && !tokenizer.specialIds.has(id),
  );
  if (start === undefined) throw new Error("the tokenizer has no token to begin with");
  return { start, ids, text };
}

/**
 * A model that says one text over and over: its layers add nothing, and row `next` of its head is the embedding of the token
 * before it. Rows of ±1 are nearly orthogonal, so the logit of the next token is far above all others.
 */
async function writeParrot(folder: string, source: string, loop: readonly number[], start: number): Promise<void> {
  const hidden = 128;
  const original = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as Record<string, unknown>;
  const configJson = {
    ...original,
    ...{ hidden_size: hidden, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 4 },
    ...{ num_key_value_heads: 2, tie_word_embeddings: false },
  };
  const sign = (row: number, column: number): number =>
    (Math.imul(row * hidden + column + 1, 2654435761) ^ Math.imul(row + 7, 40503 * (column + 3))) & 0x10000 ? 1 : -1;
  const follows = new Map([[start, loop[0]], ...loop.map((id, i) => [id, loop[(i + 1) % loop.length]] as const)]);
  const before = new Map([...follows].map(([id, next]) => [next, id]));
  const tensors = [...parameterShapes(openLanguageModel(configJson, "config.json"))].map(([name, shape]) => {
    const data = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
    if (name.endsWith("norm.weight")) data.fill(1);
    if (name.endsWith("embed_tokens.weight"))
      for (let i = 0; i < data.length; i++) data[i] = sign(Math.floor(i / hidden), i % hidden);
    if (name === "lm_head.weight")
      for (const [next, id] of before) for (let c = 0; c < hidden; c++) data[next * hidden + c] = sign(id, c);
    // The first of the loop follows two tokens: what begins the text, and what ends it.
    if (name === "lm_head.weight") for (let c = 0; c < hidden; c++) data[loop[0] * hidden + c] += sign(start, c);
    return { name, data };
  });
  await writeCheckpoint(folder, { configJson, tensors, filesFrom: source });
}

/**
 * Runs a command in a pseudo-terminal, presses Ctrl-C when `awaited` has appeared, and waits for its end.
 * @returns what was shown from the start of `awaited` up to the Ctrl-C, what came after it, and the exit code
 */
async function watch(
  words: readonly string[],
  awaited: string,
): Promise<{ shown: string; ended: string; code: unknown }> {
  const quoted = [process.execPath, ...words, "--adapter", adapter].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const child = spawn("script", ["-qec", quoted.join(" "), "/dev/null"], {
    cwd: root,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const tooLong = setTimeout(() => child.kill("SIGKILL"), 120_000);
  let output = "";
  let isPressed = false;
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    output += part;
    if (isPressed || !output.includes(awaited)) return;
    isPressed = true;
    child.stdin.write("\x03");
  });
  const [code] = await once(child, "close");
  clearTimeout(tooLong);
  const [shown, ended] = output.slice(output.indexOf(awaited)).split("^C", 2);
  if (!isPressed || ended === undefined) throw new Error(`expected to see ${awaited} and a Ctrl-C, saw ${output}`);
  return { shown: shown.trimEnd(), ended, code };
}

describe("model/generate: on a terminal", (test) => {
  const name = "text appears while it is generated, no character in halves";
  if (!hasTerminal) {
    test.skip(name, "no pseudo-terminal: needs the command `script` of util-linux");
    return;
  }
  const place = mkdtempSync(join(tmpdir(), "foothold-terminal-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const source = fixturePath("tiny-warm-start");
  const model = join(place, "parrot");

  test(name, async () => {
    const tokenizer = await loadTokenizer(source);
    const { start, ids, text } = sayable(tokenizer);
    assert.ok(ids.length >= 12 && ids.length > 2 * [...text].length, "characters of several tokens");
    await writeParrot(model, source, ids, start);
    const enough = text.repeat(2);
    const words = ["--model", model, "--prompt", tokenizer.decode([start]), "--temperature", "0", "--ignore-eos"];
    const { shown, ended, code } = await watch(["model/generate.ts", ...words, "--max-new-tokens", "5000"], enough);
    assert.ok(shown.length >= enough.length && text.repeat(5000).startsWith(shown), `shown: ${shown}`);
    assert.not.match(ended, /tokens\/s/, "it was still under way when the text was there");
    assert.is(code, 130, "stopped by Ctrl-C");
  });
});
