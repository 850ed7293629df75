// Text from a model:
//
//   node model/generate.ts --model DIR (--prompt TEXT | --chat FILE | --tokens FILE) [--samples K] [--temperature T] [--json] …
//
// --prompt is raw text; --chat a JSON file [{"role", "content"}, …], put through the model's chat template; --tokens a JSON
// file [[ids…],…], a prompt a row. With --json, standard output is one line
//   {"completions": [{"prompt": index, "tokens": […], "text": "…", "logProbs": […], "finish": "stop" | "length"}, …],
//    "tokensPerSecond": number}
// prompt by prompt, each with its samples. tokens include the end token where finish is "stop", text shows no special tokens;
// logProbs are of log-softmax(logits / T), T = 1 when greedy, before penalty, top-k and top-p. tokensPerSecond counts
// generated tokens over the time of generation, prompts included, the loading of the model not.
//
// The noise of a token depends on the seed, the prompt's ids, which of its samples it is and the place in the completion: not
// on the batch, nor on the order of the prompts. A prompt that stands twice goes on counting its samples.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { boolean, defineSettings, integer, runCommand, SettingsError, text } from "../engine/host/index.ts";
import { tokenKey, wordsOf } from "../engine/index.ts";
import { loadChat } from "./chat.ts";
import { openConfig } from "./checkpoint-files.ts";
import { modelCommandSettings, modelProblems, openModel } from "./commands/command.ts";
import { readChatFile, readTokenFile } from "./commands/prompts.ts";
import { samplingOf, samplingOfFile, samplingSettings } from "./commands/sampling-settings.ts";
import { type Answer, type Dialogue, generate } from "./generation.ts";
import { locateModel } from "./hub.ts";
import { emptyModel, expectMemory, halve, memoryLimit, planMemory, rehearseGeneration } from "./plan.ts";
import { loadTokenizer, type TextStream, type Tokenizer } from "./tokenizer.ts";

const settings = defineSettings(
  {
    ...modelCommandSettings,
    prompt: text({ default: "", meaning: "a prompt, as it stands" }),
    chat: text({ default: "", meaning: 'a conversation: a JSON file [{"role": "user", "content": "…"}]' }),
    tokens: text({ default: "", meaning: "prompts as token ids: a JSON file [[ids…],…]" }),
    samples: integer({ default: 1, min: 1, unit: "completions", meaning: "completions of each prompt" }),
    "max-new-tokens": integer({ default: 128, min: 1, unit: "tokens", meaning: "longest completion" }),
    "ignore-eos": boolean({ default: false, meaning: "end at no token, go on to max-new-tokens" }),
    "generation-config": boolean({
      default: false,
      meaning: "take the sampling values of the model's generation_config.json where no flag gives them",
    }),
    ...samplingSettings,
    "batch-rows": integer({ default: 64, min: 1, unit: "completions", meaning: "completions generated at once" }),
    json: boolean({ default: false, meaning: "print one line of JSON" }),
  },
  (values) => {
    const inputs = (["prompt", "chat", "tokens"] as const).filter((key) => values[key] !== "");
    if (inputs.length === 1) return modelProblems(values.model);
    const got = inputs.length === 0 ? "none" : inputs.map((key) => `--${key}`).join(" and ");
    return [
      ...modelProblems(values.model),
      `expected one of --prompt TEXT, --chat FILE and --tokens FILE, got ${got}: what to go on from`,
    ];
  },
);

interface Completion {
  readonly prompt: number;
  readonly ids: number[];
  answer: Answer | null;
}

/** Token ids of the prompts, at least one each. */
async function readPrompts(
  folder: string,
  { prompt, chat, tokens }: { prompt: string; chat: string; tokens: string },
  vocabulary: number,
  tokenizer: Tokenizer | null,
): Promise<number[][]> {
  if (tokens !== "") return readTokenFile(tokens, vocabulary);
  if (tokenizer === null) throw new Error("a prompt of text needs a tokenizer");
  const ids =
    chat !== "" ? (await loadChat(folder, tokenizer)).promptIds(readChatFile(chat)) : tokenizer.encode(prompt);
  if (ids.length === 0)
    throw new SettingsError(`prompt: expected a text with at least one token, ${JSON.stringify(prompt)} has none.`);
  const unknown = ids.find((id) => id >= vocabulary);
  if (unknown !== undefined)
    throw new SettingsError(
      `model: its tokenizer gives id ${unknown}, its config.json has vocab_size ${vocabulary}. Are both from one model?`,
    );
  return [ids];
}

function dialoguesOf(
  prompts: readonly number[][],
  completions: readonly Completion[],
  expectedTokens: number,
  shown: Screen | null,
): Dialogue[] {
  const rollouts = new Map<string, number>();
  return completions.map((completion, i) => {
    const prompt = prompts[completion.prompt];
    const name = prompt.join();
    const rollout = rollouts.get(name) ?? 0;
    rollouts.set(name, rollout + 1);
    return {
      point: 0,
      prompt,
      noise: { rollout, prompt: wordsOf(name)[0] },
      expectedTokens,
      sampled(id) {
        completion.ids.push(id);
        shown?.push(i, id);
      },
      answered(answer) {
        completion.answer = answer;
        shown?.end(i);
        return null;
      },
    };
  });
}

function described({ prompt, ids, answer }: Completion, tokenizer: Tokenizer | null): object {
  return {
    prompt,
    tokens: ids,
    text: tokenizer === null ? "" : tokenizer.decode(ids, { skipSpecialTokens: true }),
    logProbs: answer?.logProbs ?? [],
    finish: answer?.isTruncated === false ? "stop" : "length",
  };
}

/** Completions on standard output in their order: the first that is not finished as it comes, what is behind it waits. */
class Screen {
  readonly #streams: readonly TextStream[];
  readonly #waiting: string[];
  readonly #isEnded: boolean[];
  readonly #titles: readonly string[];
  #current = 0;

  constructor(completions: readonly Completion[], tokenizer: Tokenizer, samples: number) {
    this.#streams = completions.map(() => tokenizer.stream({ skipSpecialTokens: true }));
    this.#waiting = completions.map(() => "");
    this.#isEnded = completions.map(() => false);
    this.#titles = completions.map(({ prompt }, i) =>
      completions.length === 1 ? "" : `--- prompt ${prompt}${samples === 1 ? "" : `, sample ${i % samples}`}\n`,
    );
    process.stdout.write(this.#titles[0]);
  }

  push(completion: number, id: number): void {
    this.#waiting[completion] += this.#streams[completion].push(id);
    this.#show();
  }

  end(completion: number): void {
    this.#waiting[completion] += `${this.#streams[completion].end()}\n`;
    this.#isEnded[completion] = true;
    this.#show();
  }

  #show(): void {
    while (this.#current < this.#waiting.length) {
      const text = this.#waiting[this.#current];
      if (text !== "") process.stdout.write(text);
      this.#waiting[this.#current] = "";
      if (!this.#isEnded[this.#current]) return;
      this.#current++;
      if (this.#current < this.#titles.length) process.stdout.write(this.#titles[this.#current]);
    }
  }
}

await runCommand({
  name: "node model/generate.ts",
  summary: "Text from a model: continues prompts, or answers in a chat.",
  settings,
  examples: [
    ['node model/generate.ts --model DIR --prompt "Once upon a time"', "shows the text as it comes"],
    ["node model/generate.ts --model DIR --chat chat.json --temperature 0", "the likeliest answer"],
    ["node model/generate.ts --model DIR --tokens ids.json --samples 8 --json", "token ids and log-probabilities"],
  ],
  main: async ({ values, given, progress, signal }) => {
    const { folder } = await locateModel(values.model, { progress, signal });
    const { config } = await openConfig(folder);
    // A model without a tokenizer can still go on from ids; there is no text then.
    const needsTokenizer = values.tokens === "" || existsSync(join(folder, "tokenizer.json"));
    const tokenizer = needsTokenizer ? await loadTokenizer(folder) : null;
    const prompts = await readPrompts(folder, values, config.vocabSize, tokenizer);
    for (const id of values["stop-tokens"])
      if (id >= config.vocabSize)
        throw new SettingsError(
          `stop-tokens: expected ids below ${config.vocabSize}, the model's vocab_size, got ${id}.`,
        );
    const flags = samplingOf(values);
    const sampling = values["generation-config"] ? await samplingOfFile(folder, flags, given) : flags;
    const maxNewTokens = values["max-new-tokens"];
    const completions = prompts.flatMap((_, prompt) =>
      Array.from({ length: values.samples }, (): Completion => ({ prompt, ids: [], answer: null })),
    );
    const model = await openModel(folder, values, progress, (backend) =>
      expectMemory(
        "Generating",
        { maxRows: values["batch-rows"], maxTokens: values["pass-tokens"] },
        (sizes) =>
          planMemory(backend, (planning) => {
            const dialogues = dialoguesOf(prompts, completions, maxNewTokens, null);
            return rehearseGeneration(emptyModel(planning, config), dialogues, { ...sampling, ...sizes });
          }),
        [halve("--batch-rows", "maxRows"), halve("--pass-tokens", "maxTokens")],
        memoryLimit(backend),
      ),
    );
    if (model === null) return;

    const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0) + maxNewTokens;
    if (longest > config.maxPositionEmbeddings)
      progress.line(
        `Up to ${longest} tokens: more than the ${config.maxPositionEmbeddings} positions that the model was made for.`,
      );
    if (tokenizer === null) progress.line(`${values.model} has no tokenizer.json: ids only, no text.`);

    const phase = values.json ? progress.phase("generate", completions.length, "completions") : null;
    const shown = values.json || tokenizer === null ? null : new Screen(completions, tokenizer, values.samples);
    const begun = performance.now();
    await generate(model, dialoguesOf(prompts, completions, maxNewTokens, shown), {
      maxNewTokens,
      ...sampling,
      noiseKey: tokenKey(values.seed, "generate", 0),
      stopIds: values["ignore-eos"] ? [] : [...config.eosTokenIds, ...values["stop-tokens"]],
      maxRows: values["batch-rows"],
      maxTokens: values["pass-tokens"],
      signal,
      onPass: ({ finished }) => phase?.advance(finished),
    });
    const tokens = completions.reduce((sum, { ids }) => sum + ids.length, 0);
    const tokensPerSecond = (1000 * tokens) / (performance.now() - begun);
    phase?.done();
    if (values.json)
      process.stdout.write(
        `${JSON.stringify({ completions: completions.map((one) => described(one, tokenizer)), tokensPerSecond })}\n`,
      );
    else if (tokenizer === null) for (const { ids } of completions) process.stdout.write(`${JSON.stringify(ids)}\n`);
    if (!values.json) progress.line(`${tokens} tokens, ${tokensPerSecond.toPrecision(3)} tokens/s`);
  },
});
