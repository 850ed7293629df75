// node model/generate.ts and node model/score.ts as a user runs them: known answers on standard output and nothing else there,
// the same tokens whatever the batch, and for whatever is wrong one message and exit code 2.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { loadChat, loadTokenizer } from "../../model/index.ts";
import { assertKnown, describe, fixturePath, readFixture } from "../support.ts";
import { plantNaN } from "./model-folders.ts";

interface Fixture {
  sequences: { ids: number[]; logProbs: number[]; entropy: number[] }[];
  crossEntropy: number;
  greedy: { prompt: number[]; tokens: number[] }[];
}
interface Completion {
  prompt: number;
  tokens: number[];
  text: string;
  logProbs: number[];
  finish: "stop" | "length";
}
interface Generated {
  completions: Completion[];
  tokensPerSecond: number;
}
interface Scored {
  sequences: { tokens: number[]; logProbs: number[]; entropy: number[] }[];
  meanNll: number | null;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";

function run(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, words, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 });
}

function expectDone(...words: string[]): string {
  const { status, stdout, stderr } = run(...words, "--adapter", adapter);
  if (status !== 0) throw new Error(`${words.join(" ")}: exit code ${status}: ${stderr}`);
  return stdout;
}

/** Standard output is one line of JSON, and nothing else. */
function json<T>(...words: string[]): T {
  const stdout = expectDone(...words, "--json");
  assert.is(stdout.indexOf("\n"), stdout.length - 1, "one line");
  return JSON.parse(stdout) as T;
}

describe("model/generate-command", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-generate-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  let files = 0;
  const write = (content: unknown): string => {
    const path = join(place, `${files++}.json`);
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  const generate = (model: string, ...words: string[]): Generated =>
    json("model/generate.ts", "--model", fixturePath(model), ...words);
  const known = readFixture<Fixture>("qwen2-tiny.json");
  const prompts = write(known.greedy.map(({ prompt }) => prompt));
  const stopId = (JSON.parse(readFileSync(fixturePath("qwen2-tiny/config.json"), "utf8")) as { eos_token_id: number })
    .eos_token_id;

  test("score: known log-probabilities, entropies and their mean", () => {
    const model = ["--model", fixturePath("qwen2-tiny")];
    const file = write(known.sequences.map(({ ids }) => ids));
    const { sequences, meanNll } = json<Scored>("model/score.ts", ...model, "--tokens", file, "--pass-tokens", "40");
    assert.is(sequences.length, known.sequences.length);
    sequences.forEach(({ logProbs, entropy }, i) => {
      const tolerance = { absolute: 1e-4 };
      assertKnown("qwen2-tiny.json", "score: logProbs", "as run", logProbs, known.sequences[i].logProbs, tolerance);
      assertKnown("qwen2-tiny.json", "score: entropy", "as run", entropy, known.sequences[i].entropy, tolerance);
    });
    const relative = { relative: 2e-6 };
    assertKnown("qwen2-tiny.json", "score: meanNll", "as run", [meanNll ?? Number.NaN], [known.crossEntropy], relative);
    const [one] = known.sequences[0].ids;
    const single = json<Scored>("model/score.ts", ...model, "--tokens", write([[one]]));
    assert.is(single.meanNll, null);
    assert.equal([single.sequences[0].logProbs.length, single.sequences[0].entropy.length], [0, 1]);
    assert.match(expectDone("model/score.ts", ...model, "--tokens", file), /^sequence 0: \d+ tokens, mean −log p \d/);
  });

  test("score: a weight that is NaN is said beside the results, which are null", () => {
    const folder = join(place, "with-nan");
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    plantNaN(join(folder, "model.safetensors"), "model.layers.0.mlp.down_proj.weight", [0, 1]);
    const argv = ["model/score.ts", "--tokens", write([[5, 6]]), "--json", "--adapter", adapter, "--model"];
    const { status, stdout, stderr } = run(...argv, folder);
    assert.is(status, 0, stderr);
    assert.equal((JSON.parse(stdout) as Scored).sequences[0].logProbs, [null]);
    assert.match(stderr, "score: the model's logits are not numbers: its weights hold NaN or infinite values.");
    assert.not.match(run(...argv, fixturePath("tiny-warm-start")).stderr, "not numbers");
  });

  test("generate: known greedy tokens in one ragged batch, and the scorer's log-probabilities", () => {
    const count = known.greedy[0].tokens.length;
    const greedy = ["--tokens", prompts, "--temperature", "0", "--max-new-tokens", String(count)];
    const { completions, tokensPerSecond } = generate("qwen2-tiny", ...greedy, "--ignore-eos");
    assert.ok(tokensPerSecond > 0);
    completions.forEach(({ prompt, tokens, logProbs, finish }, i) => {
      assert.equal([prompt, finish, logProbs.length], [i, "length", count]);
      assertKnown("qwen2-tiny.json", "generate: tokens", "as run", tokens, known.greedy[i].tokens, {});
    });
    const whole = completions.map(({ tokens }, i) => [...known.greedy[i].prompt, ...tokens]);
    const scored = json<Scored>("model/score.ts", "--model", fixturePath("qwen2-tiny"), "--tokens", write(whole));
    completions.forEach(({ logProbs }, i) => {
      const own = scored.sequences[i].logProbs.slice(-count);
      logProbs.forEach((value, t) => {
        assert.ok(Math.abs(value - own[t]) <= 1e-5, `completion ${i}, token ${t}: ${value}, scored ${own[t]}`);
      });
    });
    // The same with end tokens: each completion is the known one up to its first.
    const [stop] = [known.greedy[0].tokens[3]];
    const ended = generate("qwen2-tiny", ...greedy, "--stop-tokens", String(stop)).completions;
    ended.forEach(({ tokens, finish }, i) => {
      const at = known.greedy[i].tokens.findIndex((id) => id === stop || id === stopId);
      assert.equal(tokens, at < 0 ? known.greedy[i].tokens : known.greedy[i].tokens.slice(0, at + 1));
      assert.is(finish, at < 0 ? "length" : "stop");
    });
    assert.ok(ended.some(({ finish }) => finish === "stop"));
  });

  test("generate: one seed, the same tokens in any batch and order, with a penalty and cuts", () => {
    const ids = known.greedy.map(({ prompt }) => prompt);
    const words = ["--max-new-tokens", "7", "--seed", "3", "--samples", "3", "--ignore-eos"];
    const warped = ["--temperature", "0.8", "--top-k", "40", "--top-p", "0.9", "--repetition-penalty", "1.2"];
    for (const sampling of [[], warped]) {
      const { completions } = generate("qwen2-tiny", "--tokens", prompts, ...words, ...sampling);
      const reversed = write(ids.toReversed());
      const small = ["--batch-rows", "2", "--pass-tokens", "16"];
      const again = generate("qwen2-tiny", "--tokens", reversed, ...words, ...sampling, ...small).completions;
      const byPrompt = (all: Completion[], prompt: number) => all.filter((one) => one.prompt === prompt);
      ids.forEach((_, i) => {
        const own = byPrompt(completions, i);
        const other = byPrompt(again, ids.length - 1 - i);
        assert.equal(
          own.map(({ tokens }) => tokens),
          other.map(({ tokens }) => tokens),
        );
        assert.equal(
          own.map(({ logProbs }) => logProbs),
          other.map(({ logProbs }) => logProbs),
        );
        assert.is(new Set(own.map(({ tokens }) => tokens.join())).size, 3, "samples differ");
      });
      // A prompt that stands three times is a prompt with three samples.
      const thrice = generate(
        "qwen2-tiny",
        "--tokens",
        write([ids[0], ids[0], ids[0]]),
        ...words.slice(0, 4),
        "--ignore-eos",
        ...sampling,
      );
      assert.equal(
        thrice.completions.map(({ tokens }) => tokens),
        byPrompt(completions, 0).map(({ tokens }) => tokens),
      );
      const otherSeed = generate("qwen2-tiny", "--tokens", prompts, ...words, ...sampling, "--seed", "4").completions;
      assert.not.equal(
        otherSeed.map(({ tokens }) => tokens),
        completions.map(({ tokens }) => tokens),
      );
    }
    const best = generate("qwen2-tiny", "--tokens", prompts, ...words, "--top-k", "1").completions;
    for (const { prompt, tokens } of best) assert.equal(tokens, known.greedy[prompt].tokens.slice(0, 7));
  });

  test("generate: raw text and a chat are the ids that they stand for; text is shown as it is decoded", async () => {
    const folder = fixturePath("tiny-warm-start");
    const tokenizer = await loadTokenizer(folder);
    const messages = [{ role: "user", content: "Sort these names" }] as const;
    const chatIds = (await loadChat(folder, tokenizer)).promptIds(messages);
    const words = ["--max-new-tokens", "12", "--temperature", "1"];
    for (const [given, ids] of [
      [["--chat", write(messages)], chatIds],
      [["--prompt", "Sort these"], tokenizer.encode("Sort these")],
    ] as const) {
      const found = generate("tiny-warm-start", ...given, ...words).completions;
      const expected = generate("tiny-warm-start", "--tokens", write([ids]), ...words).completions;
      assert.equal(found, expected);
      assert.is(found[0].text, tokenizer.decode(found[0].tokens, { skipSpecialTokens: true }));
      const shown = expectDone("model/generate.ts", "--model", folder, ...given, ...words);
      assert.is(shown, `${found[0].text}\n`);
      const two = expectDone("model/generate.ts", "--model", folder, ...given, ...words, "--samples", "2");
      assert.ok(two.startsWith(`--- prompt 0, sample 0\n${found[0].text}\n--- prompt 0, sample 1\n`), two);
    }
  });

  test("generate: a chat ends at the template's end token, whatever the model's files name", () => {
    const folder = join(place, "names-another-end");
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    // As in a base model: <|endoftext|>, while the template ends turns with <|im_end|>.
    const [endOfText, endOfTurn] = [256, 258];
    writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: endOfText }));
    const messages = [
      { role: "user", content: "Sort these names in alphabetical order by FIRST name: BenIto AdaChen" },
    ];
    const words = ["--max-new-tokens", "40", "--temperature", "0"];
    const ask = (...more: string[]): Completion =>
      json<Generated>("model/generate.ts", "--model", folder, ...words, ...more).completions[0];
    const answer = ask("--chat", write(messages));
    assert.is(answer.finish, "stop");
    assert.is(answer.tokens.indexOf(endOfTurn), answer.tokens.length - 1);
    assert.equal(ask("--jsonl", write(JSON.stringify({ messages }))).tokens, answer.tokens);
    // Raw text is no chat: only the model's own end tokens end it.
    assert.ok(ask("--chat", write(messages), "--ignore-eos").tokens.length === 40);
  });

  test("score: texts and conversations are the ids that they stand for; one file of lines holds them all", async () => {
    const folder = fixturePath("tiny-warm-start");
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const messages = [
      { role: "user", content: "Sort these names" },
      { role: "assistant", content: "Ada Chen" },
    ] as const;
    const text = "Sort these";
    const chatIds = chat.tokenizer.encode(chat.render(messages, { addGenerationPrompt: false }));
    const textIds = chat.tokenizer.encode(text);
    const score = (...words: string[]): Scored => json<Scored>("model/score.ts", "--model", folder, ...words);
    const expected = score("--tokens", write([chatIds, textIds, [5, 6, 7]]));
    assert.equal(
      expected.sequences.map(({ tokens }) => tokens),
      [chatIds, textIds, [5, 6, 7]],
    );
    assert.equal(score("--chat", write(messages)).sequences, expected.sequences.slice(0, 1));
    assert.equal(score("--text", text).sequences, expected.sequences.slice(1, 2));
    const lines = [{ messages }, { text }, { tokens: [5, 6, 7] }].map((line) => JSON.stringify(line));
    for (const file of [lines.join("\n"), `\ufeff${lines.join("\r\n")}\r\n`])
      assert.equal(score("--jsonl", write(file)), expected);
    const bare = write(`${JSON.stringify(chatIds)}\n\n${JSON.stringify(textIds)}\n`);
    assert.equal(score("--jsonl", bare).sequences, expected.sequences.slice(0, 2));
  });

  test("a byte order mark before the JSON is no part of it", () => {
    const folder = join(place, "with-marks");
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    const words = ["--max-new-tokens", "3", "--temperature", "0"];
    const [ids, chat] = ["[[5, 6, 7]]", '[{"role": "user", "content": "Sort these names"}]'];
    const run = (...given: string[]): Completion[] =>
      json<Generated>("model/generate.ts", "--model", folder, ...words, ...given).completions;
    const expected = [run("--tokens", write(ids)), run("--chat", write(chat))];
    for (const file of ["config.json", "generation_config.json", "tokenizer_config.json"])
      writeFileSync(join(folder, file), `\ufeff${readFileSync(join(folder, file), "utf8")}`);
    assert.equal([run("--tokens", write(`\ufeff${ids}`)), run("--chat", write(`\ufeff${chat}`))], expected);
  });

  test("docs/formats.md names every field of both commands' JSON", () => {
    const documented = readFileSync(join(root, "docs/formats.md"), "utf8").split(
      "## What `generate` and `score` read",
    )[1];
    const fieldsOf = (value: unknown): string[] =>
      typeof value !== "object" || value === null
        ? []
        : Array.isArray(value)
          ? value.slice(0, 1).flatMap(fieldsOf)
          : Object.entries(value).flatMap(([key, own]) => [key, ...fieldsOf(own)]);
    const found = [
      ...fieldsOf(generate("tiny-warm-start", "--tokens", write([[5, 6]]), "--max-new-tokens", "2")),
      ...fieldsOf(json("model/score.ts", "--model", fixturePath("tiny-warm-start"), "--tokens", write([[5, 6]]))),
    ];
    assert.ok(found.length >= 11, found.join());
    for (const field of found) assert.ok(documented?.includes(`\`${field}\``), `${field} is not documented`);
  });

  test("generate: generation_config.json's sampling only when asked for, and flags win over it", () => {
    const folder = join(place, "with-sampling");
    cpSync(fixturePath("qwen2-tiny"), folder, { recursive: true });
    const config = { do_sample: true, temperature: 0.6, top_k: 5, top_p: 0.9, repetition_penalty: 1.3 };
    writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: stopId, ...config }));
    const tokensOf = (...words: string[]): number[][] =>
      json<Generated>(
        "model/generate.ts",
        "--model",
        folder,
        "--tokens",
        prompts,
        "--max-new-tokens",
        "9",
        ...words,
      ).completions.map(({ tokens }) => tokens);
    const flags = ["--temperature", "0.6", "--top-k", "5", "--top-p", "0.9", "--repetition-penalty", "1.3"];
    const asFile = tokensOf(...flags);
    assert.equal(tokensOf("--generation-config"), asFile);
    assert.not.equal(tokensOf(), asFile);
    const own = ["--temperature", "1", "--top-k", "0", "--top-p", "1", "--repetition-penalty", "1"];
    assert.equal(tokensOf("--generation-config", ...own), tokensOf());
    writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ ...config, temperature: 1e-39 }));
    const tooLow = run("model/generate.ts", "--model", folder, "--tokens", prompts, "--generation-config");
    assert.is(tooLow.status, 2);
    assert.match(tooLow.stderr, /generation_config\.json: .*expected 0 \(greedy\) or a number from 0\.00001 on/s);
    writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ ...config, do_sample: false }));
    assert.equal(tokensOf("--generation-config"), tokensOf("--temperature", "0", "--repetition-penalty", "1.3"));
  });

  test("what is wrong is one message with exit code 2", () => {
    const model = ["--model", fixturePath("qwen2-tiny")];
    const tokens = ["--tokens", prompts];
    const cases: [string[], string[]][] = [
      [
        ["model/generate.ts", ...model],
        ["expected one of --prompt TEXT, --chat FILE, --tokens FILE and --jsonl FILE, got none"],
      ],
      [["model/generate.ts", ...model, ...tokens, "--prompt", "x"], ["got --prompt and --tokens"]],
      [["model/generate.ts", ...tokens], ["model is missing"]],
      [
        ["model/score.ts", ...model],
        ["expected one of --text TEXT, --chat FILE, --tokens FILE and --jsonl FILE, got none"],
      ],
      [
        ["model/generate.ts", ...model, ...tokens, "--temperature", "1e-39"],
        ["expected 0 (greedy) or a number from 0.00001"],
      ],
      [
        ["model/score.ts", ...model, ...tokens, "--temperature", "1e-39"],
        ["temperature: expected a number", "0.00001"],
      ],
      [["landscape/run.ts", "tiny", "--evaluate.temperature", "1e-39"], ["evaluate.temperature: expected 0 (greedy)"]],
      [
        ["model/score.ts", ...model, "--jsonl", write('[1, 2]\n{"ids": [1]}\n')],
        ["line 2: expected", '"messages"'],
      ],
      [
        ["model/score.ts", ...model, "--jsonl", write("[1, 2\n")],
        ["line 1: expected", "as JSON"],
      ],
      [["model/score.ts", ...model, "--jsonl", write("\n")], ["expected at least one line of JSON, got none"]],
      [
        ["model/score.ts", ...model, "--jsonl", write("[1]\n\n[9999999]")],
        ["line 3, position 0: expected an id below"],
      ],
      [["model/score.ts", ...model, "--jsonl", write('{"text": "x"}')], ["tokenizer.json: not found"]],
      [
        ["model/generate.ts", "--model", join(place, "nowhere"), ...tokens],
        ["nowhere", "model folder"],
      ],
      [["model/generate.ts", ...model, "--prompt", "x"], ["tokenizer.json: not found"]],
      [["model/generate.ts", ...model, ...tokens, "--maxnew-token", "3"], ["did you mean --max-new-tokens?"]],
      [
        ["model/generate.ts", ...model, ...tokens, "--top-p", "0"],
        ["top-p: expected a number, above 0 and at most 1, got 0"],
      ],
      [
        ["model/generate.ts", ...model, ...tokens, "--max-new-tokens", "0"],
        ["max-new-tokens: expected an integer, at least 1"],
      ],
      [["model/generate.ts", ...model, ...tokens, "--stop-tokens", "1000000"], ["stop-tokens: expected ids below"]],
      [
        ["model/generate.ts", ...model, "--chat", write([{ role: "user", content: "" }])],
        ["tokenizer.json: not found"],
      ],
      [
        ["model/score.ts", ...model, "--tokens", join(place, "nothing.json")],
        ["nothing.json", "no such file"],
      ],
      [["model/score.ts", ...model, "--tokens", write("[[1, 2")], ["as JSON"]],
      [
        ["model/score.ts", ...model, "--tokens", write([1, 2])],
        ["a list of lists of token ids", "at 0"],
      ],
      [["model/score.ts", ...model, "--tokens", write([[1], []])], ["list 1: expected at least one token id"]],
      [["model/score.ts", ...model, "--tokens", write([])], ["at least one list"]],
      [["model/score.ts", ...model, "--tokens", write([[1, 9_999_999]])], ["list 0, position 1: expected an id below"]],
    ];
    const chat = ["--model", fixturePath("tiny-warm-start"), "--chat"];
    cases.push(
      [
        ["model/generate.ts", ...chat, write([{ role: "robot", content: "" }])],
        ["a list of messages", "at 0.role"],
      ],
      [["model/generate.ts", ...chat, write([])], ["a list of messages"]],
    );
    for (const [words, texts] of cases) {
      const { status, stdout, stderr } = run(...words);
      assert.is(status, 2, `${words.join(" ")}: ${stderr}`);
      assert.is(stdout, "");
      assert.is(stderr.match(/^\w*Error: /gm)?.length, 1, `one message: ${stderr}`);
      assert.not.match(stderr, /^ {4}at /m);
      for (const text of texts) assert.ok(stderr.includes(text), `${JSON.stringify(text)} in ${stderr}`);
    }
  });

  test("--dry-run says how much memory it takes, and loads nothing", () => {
    const model = ["--model", fixturePath("qwen2-tiny"), "--tokens", prompts, "--dry-run"];
    for (const door of ["model/score.ts", "model/generate.ts"])
      assert.match(expectDone(door, ...model), /^Memory: [\d.]+ \w+ \(.*weights [\d.]+ \w+.*\)\n$/);
  });

  test("what cannot fit is refused before it starts, with numbers and a way", () => {
    const model = ["--model", fixturePath("qwen2-tiny"), "--tokens", prompts];
    const begun = performance.now();
    const { status, stderr } = run("model/generate.ts", ...model, "--samples", "64", "--max-new-tokens", "100000000");
    assert.is(status, 2, stderr);
    assert.match(stderr, /OutOfMemoryError: Generating needs [\d.]+ TiB \(KV cache [\d.]+ TiB, .*\); .* [\d.]+ GiB\. /);
    assert.ok(performance.now() - begun < 60_000, "the refusal came late");
  });

  test("--help names every flag of both", () => {
    for (const [door, flags] of [
      ["model/generate.ts", ["--max-new-tokens", "--ignore-eos", "--generation-config", "--samples", "--top-k"]],
      ["model/score.ts", ["--tokens", "--json", "--model"]],
    ] as const) {
      const { status, stdout } = run(door, "--help");
      assert.is(status, 0);
      for (const flag of flags) assert.ok(stdout.includes(flag), `${flag} in ${stdout}`);
    }
  });
});
