// `--dry-run` of the warm start: operations, time, memory and disk. It trains, writes and downloads nothing.
import {
  formatBytes,
  formatDuration,
  freeDisk,
  resolvedToml,
  type Settings,
  type SettingsTree,
  type Values,
} from "../engine/host/index.ts";
import type { Backend } from "../engine/index.ts";
import { describePlan, memoryLimit } from "../model/index.ts";
import { turnsOf } from "./environments/environment.ts";
import { evaluatedRollouts } from "./evaluation.ts";
import { bytesOfWeights } from "./folder-size.ts";
import { type Example, supervisedStep } from "./learn.ts";
import { expectedTokensOf, openingOf } from "./openings.ts";
import { expectSupervisedMemory, type SupervisedJob } from "./plan.ts";
import { probeRates, trainingShare } from "./probe.ts";
import { attentionFlops, forwardFlops, headFlops } from "./work.ts";

export interface WarmStartPlan<D extends SettingsTree> {
  readonly settings: Settings<D>;
  readonly values: Values<D>;
  readonly job: SupervisedJob;
  /** Training steps, and evaluations on the way and at the end. */
  readonly steps: number;
  readonly evaluations: number;
  readonly out: string;
}

/** Prints the plan on standard output. */
export async function printWarmStartPlan<D extends SettingsTree>(
  backend: Backend,
  { settings, values, job, steps, evaluations, out }: WarmStartPlan<D>,
  signal: AbortSignal,
): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  print(`# Settings\n\n${resolvedToml(settings, values)}\n`);
  print("# Plan (nothing is written, trained or downloaded by --dry-run)\n");
  const { config, chat, examples, environment, evaluation, batch } = job;
  const requests = evaluatedRollouts(environment, evaluation);
  const perToken = (context: number): number => forwardFlops(config) + attentionFlops(config, context);
  const answered = ({ mask, ids }: Example): number =>
    mask === undefined ? ids.length : Array.from(mask).reduce((sum, bit) => sum + bit, 0);
  const trained = examples.reduce(
    (sum, example) =>
      sum + example.ids.length * perToken(example.ids.length / 2) + answered(example) * headFlops(config),
    0,
  );
  const training = steps * trainingShare(batch.recompute) * trained;
  const read = requests.reduce((sum, { episode }) => sum + openingOf(episode, chat).prompt.length, 0);
  const written = requests.reduce((sum, { episode }) => sum + turnsOf(episode) * evaluation.maxNewTokens, 0);
  const longest = Math.max(
    ...requests.map(
      ({ episode }) =>
        openingOf(episode, chat).prompt.length + expectedTokensOf(episode, chat, evaluation.maxNewTokens),
    ),
  );
  const evaluating = {
    forward: evaluations * read * perToken(longest / 2),
    decode: evaluations * written * (perToken(longest) + headFlops(config)),
  };
  const tokens = examples.reduce((sum, { ids }) => sum + ids.length, 0);
  print("Operations (dialogues of the first step stand for all; every evaluated answer of maximum length):");
  print(
    `  training: ${steps} steps, ${steps * examples.length} dialogues, ${(steps * tokens).toLocaleString("en")} tokens, ${training.toExponential(1)} operations`,
  );
  print(
    `  evaluations: ${evaluations}, ${evaluations * requests.length} conversations, ${(evaluating.forward + evaluating.decode).toExponential(1)} operations`,
  );
  print("");
  const plan = await expectSupervisedMemory(backend, job, { limit: null, compiles: false });
  const limit = memoryLimit(backend);
  const fits = limit === null || plan.totalBytes <= limit.bytes;
  print(`Memory: ${describePlan(plan)}`);
  if (limit === null) print("  WebGPU does not tell how much memory a GPU has: compare with the card's.");
  else print(`  ${fits ? "It fits" : "It does not fit here"}: ${limit.what} ${formatBytes(limit.bytes)}.`);
  print("");
  const conversation = Math.round(tokens / examples.length);
  const prompt = Math.max(1, Math.min(conversation - 1, Math.round(read / requests.length)));
  const rates = await probeRates(
    backend,
    config,
    {
      rows: requests.length,
      ...{ tokens: evaluation.maxTokens, trainTokens: batch.microBatchTokens, conversation, prompt },
      recompute: batch.recompute,
      train: (model, sequences) =>
        supervisedStep(
          model,
          sequences.map((sequence) => ({ ...sequence, tokenWeight: 0 })),
          {
            optimiser: { learningRate: 1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
            ...{ maxTokens: batch.microBatchTokens, recomputeLayers: batch.recompute, step: 1 },
          },
        ),
      precision: job.weights.precision ?? "f32",
    },
    fits,
    signal,
  );
  const seconds = [training / rates.training, evaluating.forward / rates.forward + evaluating.decode / rates.decode];
  print(`Time: ${formatDuration(1000 * (seconds[0] + seconds[1]))}`);
  print(`  training: ${formatDuration(1000 * seconds[0])}`);
  print(`  evaluations: ${formatDuration(1000 * seconds[1])}`);
  print(`  This rests on ${rates.basis}`);
  print("");
  const weights = bytesOfWeights(config);
  const most = stateWeights(false) * weights;
  print(
    `Disk: about ${formatBytes(7 * weights)} in ${out}; at most ${formatBytes(most)} while it runs; ${freeDisk(out, most)}`,
  );
  print(`  checkpoint: ${formatBytes(weights)}, and the tokenizer's files`);
  print(`  training states: ${formatBytes(6 * weights)}`);
}

/**
 * The disk that a training still needs, in sizes of the weights: the checkpoint, and training states of the weights and both
 * moments. Two are kept; a third is written before it replaces one.
 * @param isBegun  whether there are training states already
 */
export const stateWeights = (isBegun: boolean): number => 1 + 3 * (isBegun ? 1 : 3);
