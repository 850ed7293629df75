// `--dry-run` of a study: what it will compute, how long it will take, and what memory and disk it needs. Nothing is
// trained, written or downloaded. If the model is not on this machine, its shape is that of the published model, and
// the lengths of prompts are estimated.
import {
  CheckpointError,
  formatBytes,
  formatDuration,
  freeDiskBytes,
  type Progress,
  resolvedToml,
} from "../../engine/host/index.ts";
import { adapterLine, type Backend, OutOfMemoryError, openBackend, sizeOf } from "../../engine/index.ts";
import {
  type Chat,
  describePlan,
  type LanguageModel,
  loadChat,
  loadTokenizer,
  locateModel,
  type MemoryPlan,
  memoryLimit,
  openConfig,
  openLanguageModel,
  publishedConfigOf,
  standInChat,
  withoutDownload,
} from "../../model/index.ts";
import {
  type Environment,
  expectPrecision,
  expectTrainingMemory,
  openEnvironment,
  policyProbe,
  probeRates,
  trainedSteps,
} from "../../rl/index.ts";
import { countCells } from "../files/cells.ts";
import { findCheckpoints } from "../files/given-checkpoints.ts";
import { stateFolder } from "../files/layout.ts";
import { checkSettings, embeddedModel, type StudySettings } from "../files/run-folder.ts";
import { expectHostMemoryOf, sweepMemory } from "../measure/memory-plan.ts";
import { studySettings } from "../settings.ts";
import { diskOf } from "./disk.ts";
import { flopsOf, type Range, secondsOf, type WorkPart, workOf } from "./work.ts";

/** A round number for the comparison with a large GPU, operations per second; not a measured rate. */
const cardRate = 2e13;

interface PlannedModel {
  readonly config: LanguageModel;
  readonly chat: Chat;
  /** Null if the model is not at hand. */
  readonly folder: string | null;
  /** What was guessed about it, in a sentence; null if nothing was. */
  readonly remark: string | null;
}

/**
 * The model of a plan: from its folder or the cache; else the shape of a published model of this name.
 * @throws CheckpointError when the model is not at hand and its shape is not known
 */
export async function plannedModel(path: string): Promise<PlannedModel> {
  const wanted = path === "" ? embeddedModel : path;
  try {
    const { folder } = await locateModel(wanted, withoutDownload());
    const chat = await loadChat(folder, await loadTokenizer(folder));
    return { config: (await openConfig(folder)).config, chat, folder, remark: null };
  } catch (thrown) {
    const shape = publishedConfigOf(wanted);
    if (!(thrown instanceof CheckpointError)) throw thrown;
    if (shape === null)
      throw new CheckpointError(
        `${wanted}: a plan needs the model or a known shape, and has neither. Expected a folder, a model that was downloaded before, or ` +
          `Qwen/Qwen2.5-0.5B, -1.5B, -3B or -7B (also -Instruct). ${thrown.message}`,
        { cause: thrown },
      );
    return {
      config: openLanguageModel(shape, wanted),
      chat: standInChat(),
      folder: null,
      remark:
        `${wanted} is not at hand. Its shape is known; lengths of prompts and answers are estimated without its tokenizer ` +
        "(within about 15%). The run itself will download it.",
    };
  }
}

/** Prints the plan of a study on standard output. @throws as the study itself would on settings that are refused */
export async function printPlan(settings: StudySettings, progress: Progress, signal: AbortSignal): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const environment = await openEnvironment(settings.environment);
  await checkSettings(settings.out, settings);
  const { config, chat, folder, remark } = await plannedModel(
    findCheckpoints(settings.checkpoints)[0]?.path ?? settings.model.path,
  );
  const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: "off" });
  const { backend } = opened;
  try {
    print(`# Settings\n\n${resolvedToml(studySettings, settings)}\n`);
    print("# Plan of the whole study (nothing is written, trained or downloaded by --dry-run)\n");
    progress.line(adapterLine(opened));
    expectPrecision("--train.precision", settings.train.precision, opened);
    const weights = [...config.parameters().values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    print(`Model: ${modelName(settings)}, ${weights.toLocaleString("en")} weights`);
    if (remark !== null) print(`  ${remark}`);
    const done = alreadyDone(settings);
    if (done !== null) print(`  ${done}`);
    const { parts, lengths, knowsRight } = workOf(config, chat, environment, settings);
    for (const line of workTable(parts, knowsRight)) print(line);
    print("");
    const fits = await printMemory(backend, { config, chat, environment, settings }, signal, print);
    const { landscape, train, batch } = settings;
    const longest = landscape.steps.length > 0 ? lengths.landscape : lengths.train;
    const prompt = Math.max(1, Math.round(longest.prompt));
    const most = Math.max(...parts.map(({ conversations }) => conversations));
    progress.line("Measuring this adapter …");
    const rates = await probeRates(
      backend,
      config,
      {
        rows: Math.min(batch.rows, most),
        tokens: batch.tokens,
        trainTokens: Math.min(batch.trainTokens, batch.tokens),
        conversation: prompt + Math.max(1, Math.round(longest.followUp + longest.answer.right)),
        prompt,
        recompute: batch.recompute,
        train:
          train.steps > 0 ? policyProbe(train, { maxTokens: batch.trainTokens, recompute: batch.recompute }) : null,
        precision: train.precision,
      },
      fits,
      signal,
    );
    const seconds = parts.map((part) => ({ name: part.name, seconds: secondsOf(part, rates) }));
    const total = {
      right: seconds.reduce((sum, one) => sum + one.seconds.right, 0),
      most: seconds.reduce((sum, one) => sum + one.seconds.most, 0),
    };
    print(`Time: ${durationRange(total, knowsRight)}`);
    for (const one of seconds) print(`  ${one.name}: ${durationRange(one.seconds, knowsRight)}`);
    print(`  This rests on ${rates.basis}`);
    const flops = parts.map(flopsOf);
    const atCardRate = {
      right: flops.reduce((sum, one) => sum + one.right, 0) / cardRate,
      most: flops.reduce((sum, one) => sum + one.most, 0) / cardRate,
    };
    if (total.right > 86_400)
      print(
        `  For comparison, by arithmetic alone: an adapter that sustained ${cardRate / 1e12} TFLOP/s throughout would take ${durationRange(atCardRate, knowsRight)}.`,
      );
    print("  Not counted: loading, writing perturbed weights, files, statistics and figures.");
    print("");
    const disk = diskOf(config, environment, settings, lengths, folder);
    const end = [...disk.parts.values()].reduce((sum, bytes) => sum + bytes, 0);
    print(
      `Disk: about ${formatBytes(end)} in ${settings.out}; at most ${formatBytes(disk.peak)} while it runs; free: ${formatBytes(freeDiskBytes(settings.out))}`,
    );
    for (const [part, bytes] of disk.parts) if (bytes > 0) print(`  ${part}: ${formatBytes(bytes)}`);
  } finally {
    backend.destroy();
  }
}

function modelName({ checkpoints, model }: StudySettings): string {
  if (checkpoints.length > 0) return checkpoints.join(", ");
  return model.path === "" ? "the embedded one" : model.path;
}

/** What the run folder already holds, in a sentence; null for nothing. */
function alreadyDone({ out, train, landscape }: StudySettings): string | null {
  const { steps, slices, points } = landscape;
  const trained = trainedSteps(stateFolder(out));
  const measured = steps
    .flatMap((step) => Array.from({ length: slices }, (_, slice) => countCells(out, { step, slice })))
    .reduce((sum, cells) => sum + cells, 0);
  if (trained === null && measured === 0) return null;
  return (
    `${out} already holds ${trained ?? 0} of ${train.steps} training steps and ${measured} of ` +
    `${steps.length * slices * points ** 2} grid points. The plan below is of the whole study; the run continues there.`
  );
}

const answers = (knowsRight: boolean): string =>
  knowsRight
    ? "first number: answers as long as right ones; second: every answer of maximum length"
    : "every answer of maximum length; this environment does not tell how long right ones are";

function workTable(parts: readonly WorkPart[], knowsRight: boolean): string[] {
  const rows = parts.map((part) => [
    part.name,
    part.conversations.toLocaleString("en"),
    counts(part.sampled, knowsRight),
    counts(part.read, knowsRight),
    counts(flopsOf(part), knowsRight),
  ]);
  const head = ["part", "conversations", "tokens written", "tokens read", "operations"];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ")}`;
  return [`Operations (${answers(knowsRight)}):`, line(head), ...rows.map(line)];
}

/** "1.2M to 5.6M" */
function counts({ right, most }: Range, knowsRight: boolean): string {
  const [low, high] = [short(right), short(most)];
  return !knowsRight || low === high ? high : `${low} to ${high}`;
}

/** A number with its unit of a thousand: 1.2k, 3.4M, 5.6G; zero is a dash. */
function short(value: number): string {
  if (value === 0) return "–";
  const units = ["", "k", "M", "G", "T", "P", "E", "Z"];
  const unit = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(value) / 3)));
  const scaled = value / 1000 ** unit;
  return `${scaled < 9.95 ? scaled.toFixed(1) : scaled.toFixed(0)}${units[unit]}`;
}

function durationRange({ right, most }: Range, knowsRight: boolean): string {
  const [low, high] = [formatDuration(1000 * right), formatDuration(1000 * most)];
  return !knowsRight || low === high ? high : `${low} to ${high}`;
}

interface Job {
  readonly config: LanguageModel;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: StudySettings;
}

/** @returns whether everything fits, as far as is known */
async function printMemory(
  backend: Backend,
  job: Job,
  signal: AbortSignal,
  print: (line: string) => void,
): Promise<boolean> {
  const { train, landscape } = job.settings;
  const limit = memoryLimit(backend);
  const refusals: string[] = [];
  const told = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof OutOfMemoryError)) throw thrown;
      refusals.push(thrown.message);
    }
  };
  print("Memory:");
  const tell = async (name: string, plan: MemoryPlan, again: () => Promise<unknown>): Promise<void> => {
    print(`  ${name}: ${describePlan(plan)}`);
    if (limit !== null && plan.totalBytes > limit.bytes) await told(again);
  };
  if (job.settings.checkpoints.length === 0) {
    const training = await expectTrainingMemory(backend, job, { limit: null, compiles: false });
    await tell(train.steps > 0 ? "training" : "evaluation of the starting model", training, () =>
      expectTrainingMemory(backend, job, { limit, compiles: false }),
    );
  }
  if (landscape.steps.length > 0) {
    const check = { compiles: false, refusesHost: false };
    const plan = await sweepMemory(backend, job, signal, { ...check, limit: null });
    await tell("landscape", plan, () => sweepMemory(backend, job, signal, { ...check, limit }));
    const heap = [...plan.heap.values()].reduce((sum, bytes) => sum + bytes, 0);
    print(
      `  Node's own memory: ${formatBytes(heap)} (${[...plan.heap].map(([part, bytes]) => `${part} ${formatBytes(bytes)}`).join(", ")})`,
    );
    await told(() => expectHostMemoryOf(job, signal));
  }
  if (limit === null) print("  WebGPU does not tell how much memory a GPU has: compare with the card's.");
  else if (refusals.length === 0) print(`  It fits: ${limit.what} ${formatBytes(limit.bytes)}.`);
  for (const refusal of refusals) print(`  It does not fit here. ${refusal}`);
  print("");
  return refusals.length === 0;
}
