// Generates text from a model:
//
//   node model/generate.ts --model DIR (--prompt TEXT | --chat FILE | --tokens FILE | --jsonl FILE) [--samples K] [--json] …
//
// --prompt is a text, used unchanged. --chat is a conversation: the model's chat template turns it into text, and the
// model answers. The answer ends at the model's end tokens or at the token with which the template ends a turn.
// --tokens and --jsonl hold several prompts. docs/formats.md describes these files and the line that --json prints.
//
// The sampling noise of a token depends on the seed, the prompt's ids, the sample's number and the position in the completion.
// It does not depend on the batch or on the order of prompts. If a prompt appears twice, its sample numbers continue.
import { boolean, defineSettings, integer, runCommand, SettingsError, text } from "../engine/host/index.ts";
import { tokenKey, wordsOf } from "../engine/index.ts";
import { openConfig } from "./checkpoint-files.ts";
import { modelCommandSettings, modelProblems, openModel } from "./commands/command.ts";
import { idsOfInputs, inputFileSettings, inputProblems, readInputs } from "./commands/prompts.ts";
import { samplingOf, samplingOfFile, samplingSettings, temperatureProblems } from "./commands/sampling-settings.ts";
import type { Answer, Dialogue } from "./dialogue.ts";
import { generate } from "./generation.ts";
import { locateModel, withoutDownload } from "./hub.ts";
import { emptyModel, expectMemory, halve, memoryLimit, planMemory, rehearseGeneration } from "./plan.ts";
import type { TextStream, Tokenizer } from "./tokenizer.ts";

const settings = defineSettings(
  {
    ...modelCommandSettings,
    prompt: text({ default: "", meaning: "a prompt, used unchanged" }),
    ...inputFileSettings,
    samples: integer({ default: 1, min: 1, unit: "completions", meaning: "completions per prompt" }),
    "max-new-tokens": integer({ default: 128, min: 1, unit: "tokens", meaning: "longest completion" }),
    "ignore-eos": boolean({ default: false, meaning: "do not stop at end tokens, continue to max-new-tokens" }),
    "generation-config": boolean({
      default: false,
      meaning: "use the sampling values of the model's generation_config.json, unless a flag gives them",
    }),
    ...samplingSettings,
    "batch-rows": integer({ default: 64, min: 1, unit: "completions", meaning: "completions generated in parallel" }),
    json: boolean({ default: false, meaning: "print one line of JSON" }),
  },
  ({ model, temperature, prompt, chat, tokens, jsonl }) => [
    ...modelProblems(model),
    ...temperatureProblems("temperature", temperature),
    ...inputProblems({ prompt, chat, tokens, jsonl }, "what to continue"),
  ],
);

interface Completion {
  readonly prompt: number;
  readonly ids: number[];
  answer: Answer | null;
}

function dialoguesOf(
  prompts: readonly (readonly number[])[],
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
      policy: 0,
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

/**
 * Prints completions in their order. The first unfinished one is printed as its text arrives; later ones wait for it.
 */
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
    ['node model/generate.ts --model DIR --prompt "Once upon a time"', "shows the text while it is generated"],
    ["node model/generate.ts --model DIR --chat chat.json --temperature 0", "the likeliest answer"],
    ["node model/generate.ts --model DIR --tokens ids.json --samples 8 --json", "token ids and log-probabilities"],
    ["node model/generate.ts --model DIR --jsonl prompts.jsonl --json", "many prompts, one on each line"],
  ],
  main: async ({ values, given, progress, signal }) => {
    const { folder } = await locateModel(values.model, {
      ...{ progress, signal },
      ...(values["dry-run"] ? { ...withoutDownload(), weights: false } : {}),
    });
    const { config } = await openConfig(folder);
    const inputs = readInputs(values, values.prompt, "prompt");
    const {
      ids: prompts,
      tokenizer,
      chat,
    } = await idsOfInputs(inputs, folder, { vocabulary: config.vocabSize, opensAnswer: true });
    // Training ends an answer at the template's end token, so this command does too. Base models name a different end
    // token.
    const stopIds = [...config.eosTokenIds, ...(chat === null ? [] : [chat.endTokenId]), ...values["stop-tokens"]];
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
            return rehearseGeneration(emptyModel(planning, config, values.precision), dialogues, {
              ...sampling,
              ...sizes,
            });
          }),
        [halve("--batch-rows", "maxRows"), halve("--pass-tokens", "maxTokens")],
        memoryLimit(backend),
      ),
    );
    if (model === null) return;

    const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0) + maxNewTokens;
    if (longest > config.maxPositionEmbeddings)
      progress.line(
        `Sequences of up to ${longest} tokens: the model was made for ${config.maxPositionEmbeddings} positions at most.`,
      );
    if (tokenizer === null) progress.line(`${values.model} has no tokenizer.json: ids only, no text.`);

    const phase = values.json ? progress.phase("generate", completions.length, "completions") : null;
    const shown = values.json || tokenizer === null ? null : new Screen(completions, tokenizer, values.samples);
    const begun = performance.now();
    await generate(model, dialoguesOf(prompts, completions, maxNewTokens, shown), {
      maxNewTokens,
      ...sampling,
      noiseKey: tokenKey(values.seed, "generate", 0),
      stopIds: values["ignore-eos"] ? [] : [...new Set(stopIds)],
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
