// Log-probability and entropy of each token of given sequences:
//
//   node model/score.ts --model DIR (--text TEXT | --chat FILE | --tokens FILE | --jsonl FILE) [--json]
//
// --text is a text, used unchanged. --chat is a finished conversation, which the model's chat template turns into text.
// --tokens and --jsonl hold several sequences. docs/formats.md describes these files and the line that --json prints.
import { boolean, defineSettings, number, runCommand, text } from "../engine/host/index.ts";
import { lowestTemperature } from "../engine/index.ts";
import { openConfig } from "./checkpoint-files.ts";
import { modelCommandSettings, modelProblems, openModel } from "./commands/command.ts";
import { idsOfInputs, inputFileSettings, inputProblems, readInputs } from "./commands/prompts.ts";
import { notNumbers } from "./generation-pass.ts";
import { locateModel, withoutDownload } from "./hub.ts";
import { emptyModel, expectMemory, halve, memoryLimit, planMemory, rehearseScoring } from "./plan.ts";
import { extended, scoreWhole } from "./scoring.ts";

const settings = defineSettings(
  {
    ...modelCommandSettings,
    text: text({ default: "", meaning: "a text, used unchanged" }),
    ...inputFileSettings,
    temperature: number({
      default: 1,
      min: lowestTemperature,
      meaning: "the logits are divided by this before the softmax",
    }),
    json: boolean({ default: false, meaning: "print one line of JSON" }),
  },
  ({ model, text, chat, tokens, jsonl }) => [
    ...modelProblems(model),
    ...inputProblems({ text, chat, tokens, jsonl }, "what to score"),
  ],
);

await runCommand({
  name: "node model/score.ts",
  summary: "Log-probability and entropy of each token of given sequences.",
  settings,
  examples: [
    ['node model/score.ts --model DIR --text "Once upon a time"', "mean −log p and perplexity of a text"],
    ["node model/score.ts --model DIR --chat chat.json --json", "every number of a conversation"],
    ["node model/score.ts --model DIR --tokens ids.json", "mean −log p and perplexity of each sequence"],
    ["node model/score.ts --model DIR --jsonl texts.jsonl --json", "many texts, one on each line"],
    ["node model/score.ts --model DIR --tokens ids.json --dry-run", "how much memory the command needs"],
  ],
  main: async ({ values, progress, signal }) => {
    const { folder } = await locateModel(values.model, {
      ...{ progress, signal },
      ...(values["dry-run"] ? { ...withoutDownload(), weights: false } : {}),
    });
    const { config } = await openConfig(folder);
    const inputs = readInputs(values, values.text, "text");
    const { ids: sequences } = await idsOfInputs(inputs, folder, { vocabulary: config.vocabSize, opensAnswer: false });
    const { temperature, "pass-tokens": passTokens } = values;
    const model = await openModel(folder, values, progress, (backend) =>
      expectMemory(
        "Scoring",
        { maxTokens: passTokens },
        ({ maxTokens }) =>
          planMemory(backend, (planning) =>
            rehearseScoring(emptyModel(planning, config, values.precision), sequences.map(extended), {
              temperature,
              maxTokens,
            }),
          ),
        [halve("--pass-tokens", "maxTokens")],
        memoryLimit(backend),
      ),
    );
    if (model === null) return;
    const total = sequences.reduce((sum, { length }) => sum + length, 0);
    const phase = progress.phase("score", total, "tokens");
    const scores = await scoreWhole(model, sequences, {
      temperature,
      maxTokens: passTokens,
      signal,
      onTokens: (count) => phase.advance(count),
    });
    phase.done();
    if (scores.some(({ logProbs }) => logProbs.some(Number.isNaN))) progress.line(notNumbers("score", model.weights));
    const meanNll = meanOf(scores.map(({ logProbs }) => logProbs));
    if (values.json) {
      const found = scores.map(({ logProbs, entropy }, i) => ({
        tokens: sequences[i],
        logProbs: [...logProbs],
        entropy: [...entropy],
      }));
      process.stdout.write(`${JSON.stringify({ sequences: found, meanNll })}\n`);
      return;
    }
    const line = (name: string, tokens: number, nll: number | null): string =>
      `${name}: ${tokens} tokens, ` +
      (nll === null ? "none predicted" : `mean −log p ${nll.toFixed(4)}, perplexity ${Math.exp(nll).toPrecision(4)}`);
    scores.forEach(({ logProbs }, i) => {
      process.stdout.write(`${line(`sequence ${i}`, sequences[i].length, meanOf([logProbs]))}\n`);
    });
    process.stdout.write(`${line("all", total, meanNll)}\n`);
  },
});

/** The mean of −log p over all tokens; null if there are none. */
function meanOf(logProbs: readonly Float32Array[]): number | null {
  const count = logProbs.reduce((sum, { length }) => sum + length, 0);
  const total = logProbs.reduce((sum, own) => own.reduce((s, value) => s - value, sum), 0);
  return count === 0 ? null : total / count;
}
