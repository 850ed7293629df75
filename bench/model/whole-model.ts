// Times a whole model on one adapter: loading, prefill, decoding and training, with peak memory, and with the share of
// the rate that the kernels alone reach.
//
//   node bench/model/whole-model.ts --model DIR [--adapter NAME] [--part inference|training] [--json FILE]
//
// Inference and training run in separate processes, so that each has its own peak of memory. The values are checked:
// all rows of a batch give the tokens of a single row, and training lowers the loss. test/tools/torch_whole_model.py
// does the same work in PyTorch and also compares tokens and losses.
//
// All rows of a batch continue one prompt, which is computed and stored once. Their new tokens are computed separately
// per row.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Backend } from "../../engine/backends/backend.ts";
import {
  backendSettings,
  boolean,
  choice,
  defineSettings,
  formatBytes,
  integer,
  integers,
  type Progress,
  runCommand,
  text,
  type Values,
  writeAtomic,
} from "../../engine/host/index.ts";
import { openBackend } from "../../engine/open.ts";
import { generate, locateModel } from "../../model/index.ts";
import { type LoadedModel, loadModel } from "../../model/weights.ts";
import { supervisedStep } from "../../rl/learn.ts";
import { circumstances } from "../circumstances.ts";
import { type BenchResult, resultLine } from "../harness.ts";
import { measureCeilings } from "../measure-ceilings.ts";
import { decodeWeightBytes, forwardFlops, trainingFlops } from "./model-work.ts";

const settings = defineSettings(
  {
    model: text({
      default: "",
      meaning: "the model: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION",
    }),
    ...backendSettings,
    part: choice({ default: "all", options: ["all", "inference", "training"], meaning: "what is measured" }),
    tokens: integer({
      default: 256,
      min: 2,
      unit: "tokens",
      meaning: "the prompt, and the sequence of a training step",
    }),
    "new-tokens": integer({ default: 16, min: 1, unit: "tokens", meaning: "decode steps that are timed" }),
    rows: integers({ default: [1, 16, 64], min: 1, unit: "rows", meaning: "batches that are decoded" }),
    repeats: integer({ default: 2, min: 1, meaning: "timed runs of prefill and training, after one untimed run" }),
    ceilings: boolean({ default: true, meaning: "first measure the ceilings of the kernels on this adapter" }),
    json: text({ default: "", meaning: "also write the results to this file" }),
  },
  ({ model }) => (model === "" ? ["model is missing (--model DIR)"] : []),
);
type Options = Values<typeof settings.tree>;

/** One run: its duration, and its time on all processors, which other processes on the machine disturb less. */
interface Timed {
  seconds: number;
  processorSeconds: number;
}

interface Inference {
  load: Timed;
  /** Resident memory of the process; on a software driver this includes the device's bytes. */
  loadPeakBytes: number;
  peakBytes: number;
  deviceBytes: number;
  prefill: Timed & { tokensPerSecond: number; flops: number };
  decode: (Timed & { rows: number; tokensPerSecond: number; flops: number; weightBytes: number })[];
  /** The tokens generated at temperature 0. */
  greedy: number[];
}

interface Training {
  load: Timed;
  peakBytes: number;
  deviceBytes: number;
  step: Timed & { tokensPerSecond: number; flops: number };
  losses: number[];
}

async function timed<T>(body: () => Promise<T>): Promise<Timed & { result: T }> {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const result = await body();
  const used = process.cpuUsage(cpu);
  return { result, seconds: (performance.now() - begun) / 1000, processorSeconds: (used.user + used.system) / 1e6 };
}

/** The median run; of two, the faster. */
function medianRun<T extends Timed>(runs: readonly T[]): T {
  return [...runs].sort((a, b) => a.seconds - b.seconds)[Math.floor((runs.length - 1) / 2)];
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/**
 * Pseudo-random token ids, the same for every model of that vocabulary; test/tools/torch_whole_model.py makes the same
 * ones.
 */
function promptOf(tokens: number, vocabulary: number): number[] {
  return Array.from({ length: tokens }, (_, i) => (i * 7919 + 13) % vocabulary);
}

async function loadTimed(backend: Backend, folder: string, trainable: boolean) {
  const loaded = await timed(async () => {
    const model = await loadModel(backend, folder, { trainable });
    await backend.idle();
    return model;
  });
  const { result: model, ...load } = loaded;
  return { model, load };
}

/** Decodes rows from one prompt, greedily. Only the decode steps are timed; `first` is the prefill of the prompt. */
async function decode(model: LoadedModel, prompt: readonly number[], rows: number, steps: number) {
  const said: number[][] = [];
  let [begun, cpu] = [performance.now(), process.cpuUsage()];
  const first: Timed = { seconds: 0, processorSeconds: 0 };
  const rest: Timed = { seconds: 0, processorSeconds: 0 };
  let passes = 0;
  const dialogues = Array.from({ length: rows }, (_, rollout) => ({
    policy: 0,
    prompt,
    noise: { rollout, prompt: 0 },
    expectedTokens: steps + 1,
    answered({ ids }: { ids: readonly number[] }) {
      said.push([...ids]);
      return null;
    },
  }));
  await generate(model, dialogues, {
    ...{ maxNewTokens: steps + 1, temperature: 0, noiseKey: [0, 0], stopIds: [] },
    ...{ maxRows: rows, maxTokens: prompt.length + rows },
    onPass: () => {
      const [now, used] = [performance.now(), process.cpuUsage(cpu)];
      const into = passes++ === 0 ? first : rest;
      into.seconds += (now - begun) / 1000;
      into.processorSeconds += (used.user + used.system) / 1e6;
      [begun, cpu] = [performance.now(), process.cpuUsage()];
    },
  });
  const differing = said.find((ids) => ids.join() !== said[0].join());
  if (differing !== undefined || said.length !== rows)
    throw new Error(`decode: rows of one prompt have different tokens: ${said[0]} and ${differing}`);
  return { first, rest, said: said[0] };
}

async function measureInference(
  backend: Backend,
  options: Options,
  folder: string,
  progress: Progress,
): Promise<Inference> {
  const { model, load } = await loadTimed(backend, folder, false);
  progress.line(`loaded in ${load.seconds.toFixed(1)} s`);
  const loadPeakBytes = peakBytes();
  const { config } = model;
  const prompt = promptOf(options.tokens, config.vocabSize);
  const prefills: Timed[] = [];
  for (let i = 0; i <= options.repeats; i++) prefills.push((await decode(model, prompt, 1, 0)).first);
  const prefill = medianRun(prefills.slice(1));
  progress.line(`prefill: ${prefill.seconds.toFixed(2)} s`);
  const found: Inference["decode"] = [];
  let greedy: number[] = [];
  for (const rows of options.rows) {
    await decode(model, prompt, rows, 1);
    const { rest, said } = await decode(model, prompt, rows, options["new-tokens"]);
    if (greedy.length > 0 && greedy.join() !== said.join())
      throw new Error(`decode: ${rows} rows give ${said}, fewer rows gave ${greedy}`);
    greedy = said;
    const middle = options.tokens + options["new-tokens"] / 2;
    found.push({
      rows,
      seconds: rest.seconds / options["new-tokens"],
      processorSeconds: rest.processorSeconds / options["new-tokens"],
      tokensPerSecond: (rows * options["new-tokens"]) / rest.seconds,
      flops: rows * forwardFlops(config, 1, middle, 1),
      weightBytes: decodeWeightBytes(config),
    });
    progress.line(`decode, ${rows} rows: ${(rest.seconds / options["new-tokens"]).toFixed(3)} s per step`);
  }
  const { peakBytes: deviceBytes } = backend.statistics();
  const flops = forwardFlops(config, options.tokens, 0, 1);
  return {
    ...{ load, loadPeakBytes, peakBytes: peakBytes(), deviceBytes },
    prefill: { ...prefill, tokensPerSecond: options.tokens / prefill.seconds, flops },
    ...{ decode: found, greedy },
  };
}

async function measureTraining(
  backend: Backend,
  options: Options,
  folder: string,
  progress: Progress,
): Promise<Training> {
  const { model, load } = await loadTimed(backend, folder, true);
  progress.line(`loaded for training in ${load.seconds.toFixed(1)} s`);
  const { config } = model;
  const ids = promptOf(options.tokens, config.vocabSize);
  const optimiser = {
    ...{ learningRate: 1e-5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    ...{ weightDecay: 0.01, maxGradientNorm: 1 },
  };
  const example = { ids, tokenWeight: 1 / (ids.length - 1) };
  const steps: (Timed & { result: { loss: number } })[] = [];
  for (let step = 1; step <= options.repeats + 1; step++) {
    steps.push(await timed(() => supervisedStep(model, [example], { optimiser, maxTokens: ids.length, step })));
    progress.line(
      `step ${step}: loss ${steps[step - 1].result.loss.toFixed(4)}, ${steps[step - 1].seconds.toFixed(2)} s`,
    );
  }
  const losses = steps.map(({ result }) => result.loss);
  if (!(losses[losses.length - 1] < losses[0])) throw new Error(`training does not lower the loss: ${losses}`);
  const { seconds, processorSeconds } = medianRun(steps.slice(1));
  const { peakBytes: deviceBytes } = backend.statistics();
  return {
    ...{ load, peakBytes: peakBytes(), deviceBytes },
    step: {
      seconds,
      processorSeconds,
      tokensPerSecond: ids.length / seconds,
      flops: trainingFlops(config, ids.length),
    },
    losses,
  };
}

type Part = "inference" | "training";

/** Runs one part in a separate process: this command, told to run that part without ceilings. */
function elsewhere<T>(part: Part): T {
  const json = join(tmpdir(), `foothold-whole-model-${process.pid}-${part}.json`);
  try {
    const words = [...process.argv.slice(1), "--part", part, "--json", json, "--no-ceilings"];
    const { status } = spawnSync(process.execPath, words, { stdio: ["ignore", "ignore", "inherit"] });
    if (status !== 0) throw new Error(`${part} ended with exit code ${status}`);
    return (JSON.parse(readFileSync(json, "utf8")) as Record<string, T>)[part];
  } finally {
    rmSync(json, { force: true });
  }
}

/**
 * The rates that the kernels alone reach. On a software driver they are computed from the time of all processors, since
 * on a busy machine a case may get two processors or half of one; on a GPU, from wall-clock time, since processors do
 * not measure a GPU's work.
 */
interface Ceiling {
  clock: "seconds" | "processorSeconds";
  matmulGflopsPerSecond: number;
  /** Bytes read and bytes written. */
  copyGigabytesPerSecond: number;
}

async function measureCeiling(backend: Backend, progress: Progress): Promise<Ceiling> {
  const results: BenchResult[] = [];
  await measureCeilings(backend, (result) => {
    progress.line(`  ${resultLine(result)}`);
    results.push(result);
  });
  const clock = backend.memory === "device" ? "seconds" : "processorSeconds";
  const best = (amount: (result: BenchResult) => number): number =>
    Math.max(...results.map((one) => amount(one) / (clock === "seconds" ? one.medianMs : one.processorMs) / 1e6));
  const [matmulGflopsPerSecond, copyGigabytesPerSecond] = [
    best(({ flops }) => flops),
    best(({ flops, bytes }) => (flops === 0 ? bytes : 0)),
  ];
  return { clock, matmulGflopsPerSecond, copyGigabytesPerSecond };
}

/** "76% of matmul"; of a decode step of one row, which multiplies little for what it reads, "90% of copy". */
function shareOf(ceiling: Ceiling | null, one: Timed & { flops: number; rows?: number; weightBytes?: number }): string {
  if (ceiling === null) return "";
  const share = (amount: number, rate: number): string =>
    `${Math.round((100 * amount) / one[ceiling.clock] / 1e9 / rate)}%`;
  return one.rows === 1 && one.weightBytes !== undefined
    ? `${share(one.weightBytes, ceiling.copyGigabytesPerSecond)} of copy`
    : `${share(one.flops, ceiling.matmulGflopsPerSecond)} of matmul`;
}

function* table(inference: Inference | null, training: Training | null, ceiling: Ceiling | null): Generator<string> {
  const line = (name: string, { seconds, processorSeconds }: Timed, ...more: string[]): string =>
    `${name.padEnd(20)} ${seconds.toPrecision(3).padStart(7)} s  processors ${processorSeconds.toPrecision(3).padStart(6)} s  ${more.join("  ")}`;
  const rate = ({ tokensPerSecond }: { tokensPerSecond: number }): string =>
    `${(tokensPerSecond < 100 ? tokensPerSecond.toPrecision(3) : tokensPerSecond.toFixed(0)).padStart(6)} tokens/s`;
  const peak = (name: string, { peakBytes, deviceBytes }: { peakBytes: number; deviceBytes: number }): string =>
    `${name.padEnd(20)} peak ${formatBytes(peakBytes)}, of it ${formatBytes(deviceBytes)} on the device`;
  if (inference !== null) {
    const { load, loadPeakBytes, prefill, decode } = inference;
    yield line("load", load, `peak ${formatBytes(loadPeakBytes)}`);
    yield line("prefill", prefill, rate(prefill), shareOf(ceiling, prefill));
    for (const one of decode)
      yield line(`decode step, ${one.rows} ${one.rows === 1 ? "row" : "rows"}`, one, rate(one), shareOf(ceiling, one));
    yield peak("inference", inference);
  }
  if (training !== null) {
    const { load, step } = training;
    yield line("load for training", load);
    yield line("training step", step, rate(step), shareOf(ceiling, step));
    yield peak("training", training);
  }
}

await runCommand({
  name: "node bench/model/whole-model.ts",
  summary:
    "Times a whole model: load, prefill, decode, a training step, and compares it with the ceilings of the kernels.",
  settings,
  main: async ({ values, progress, signal }) => {
    const { folder } = await locateModel(values.model, { progress, signal });
    const { backend, adapter } = await openBackend({
      backend: values.backend,
      adapter: values.adapter,
      tune: values.tune,
    });
    progress.line(backend.description);
    const ceiling = values.ceilings ? await measureCeiling(backend, progress) : null;
    const isWanted = (part: Part): boolean => values.part === "all" || values.part === part;
    const isHere = values.part !== "all" && ceiling === null;
    if (!isHere) backend.destroy();
    const inference = !isWanted("inference")
      ? null
      : await (isHere ? measureInference(backend, values, folder, progress) : elsewhere<Inference>("inference"));
    const training = !isWanted("training")
      ? null
      : await (isHere ? measureTraining(backend, values, folder, progress) : elsewhere<Training>("training"));
    for (const text of table(inference, training, ceiling)) console.log(text);
    const { tokens, "new-tokens": newTokens } = values;
    const report = { ...circumstances("bench/model/whole-model.ts", adapter), model: values.model, tokens, newTokens };
    const shares = ceiling && {
      prefill: inference && shareOf(ceiling, inference.prefill),
      decode: inference?.decode.map((one) => shareOf(ceiling, one)) ?? null,
      step: training && shareOf(ceiling, training.step),
    };
    if (values.json !== "")
      writeAtomic(values.json, `${JSON.stringify({ ...report, ceiling, shares, inference, training }, null, 2)}\n`);
  },
});
