// Log-probabilities and entropies of given sequences:
//
//   node model/score.ts --model DIR --tokens FILE [--json]
//
// FILE holds [[ids…],…]. With --json, standard output is one line
//   {"sequences": [{"logProbs": [T − 1 numbers], "entropy": [T numbers]}, …], "meanNll": number}
// logProbs[t] = log p(ids[t + 1] | ids[..t]), entropy[t] that of the distribution after ids[..t], both in nats; meanNll is the
// mean of −logProbs over all predicted tokens of all sequences, null where there is none (each sequence is one token).
import { boolean, defineSettings, number, runCommand, text } from "../engine/host/index.ts";
import { openConfig } from "./checkpoint-files.ts";
import { modelCommandSettings, modelProblems, openModel } from "./commands/command.ts";
import { readTokenFile } from "./commands/prompts.ts";
import { locateModel } from "./hub.ts";
import { emptyModel, expectMemory, halve, memoryLimit, planMemory, rehearseScoring } from "./plan.ts";
import { extended, scoreWhole } from "./scoring.ts";

const settings = defineSettings(
  {
    ...modelCommandSettings,
    tokens: text({ default: "", meaning: "the sequences: a JSON file [[ids…],…]" }),
    temperature: number({ default: 1, above: 0, meaning: "the logits are divided by this first" }),
    json: boolean({ default: false, meaning: "print one line of JSON" }),
  },
  (values) => [
    ...modelProblems(values.model),
    ...(values.tokens === "" ? ["tokens is missing (--tokens FILE): a JSON file [[ids…],…]"] : []),
  ],
);

await runCommand({
  name: "node model/score.ts",
  summary: "Log-probability and entropy of each token of given sequences.",
  settings,
  examples: [
    ["node model/score.ts --model DIR --tokens ids.json", "mean −log p and perplexity of each sequence"],
    ["node model/score.ts --model DIR --tokens ids.json --json", "every number"],
    ["node model/score.ts --model DIR --tokens ids.json --dry-run", "how much memory that takes"],
  ],
  main: async ({ values, progress, signal }) => {
    const { folder } = await locateModel(values.model, { progress, signal });
    const { config } = await openConfig(folder);
    const sequences = readTokenFile(values.tokens, config.vocabSize);
    const { temperature, "pass-tokens": passTokens } = values;
    const model = await openModel(folder, values, progress, (backend) =>
      expectMemory(
        "Scoring",
        { maxTokens: passTokens },
        ({ maxTokens }) =>
          planMemory(backend, (planning) =>
            rehearseScoring(emptyModel(planning, config), sequences.map(extended), { temperature, maxTokens }),
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
    const meanNll = meanOf(scores.map(({ logProbs }) => logProbs));
    if (values.json) {
      const found = scores.map(({ logProbs, entropy }) => ({ logProbs: [...logProbs], entropy: [...entropy] }));
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

/** The mean of −log p over all tokens; null where there are none. */
function meanOf(logProbs: readonly Float32Array[]): number | null {
  const count = logProbs.reduce((sum, { length }) => sum + length, 0);
  const total = logProbs.reduce((sum, own) => own.reduce((s, value) => s - value, sum), 0);
  return count === 0 ? null : total / count;
}
