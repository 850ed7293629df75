// What every `--dry-run` of a run prints alike: the model, the table of its work, the time and the disk. Nothing is trained,
// written or downloaded. If the model is not on this machine, its shape is that of the published model, and the lengths of
// prompts are estimated.
import { existsSync } from "node:fs";
import { CheckpointError, formatBytes, formatDuration, freeDisk } from "../engine/host/index.ts";
import { type Backend, OutOfMemoryError, sizeOf } from "../engine/index.ts";
import {
  type Chat,
  describePlan,
  type LanguageModel,
  loadChat,
  loadTokenizer,
  locateModel,
  type MemoryLimit,
  type MemoryPlan,
  memoryLimit,
  openConfig,
  openLanguageModel,
  publishedConfigOf,
  standInChat,
  withoutDownload,
} from "../model/index.ts";
import { embeddedModel } from "./files/run-folder.ts";
import type { DiskPlan } from "./folder-size.ts";
import type { WorkRates } from "./probe.ts";
import { flopsOf, type Range, secondsOf, type WorkPart } from "./work-parts.ts";

export type Print = (line: string) => void;

/** A round number for the comparison with a large GPU, operations per second; not a measured rate. */
const cardRate = 2e13;

export interface PlannedModel {
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
    // A folder that is there is meant, whatever is wrong with it.
    if (!(thrown instanceof CheckpointError) || existsSync(wanted)) throw thrown;
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

/** Prints the model's name and size, and what was guessed about it. */
export function printModel(path: string, { config, remark }: PlannedModel, print: Print): void {
  const weights = [...config.parameters().values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  print(`Model: ${path === "" ? "the embedded one" : path}, ${weights.toLocaleString("en")} weights`);
  if (remark !== null) print(`  ${remark}`);
}

/** Prints how long the parts take at these rates. @param uncounted  what the time leaves out, in a sentence */
export function printTime(
  parts: readonly WorkPart[],
  rates: WorkRates,
  knowsRight: boolean,
  uncounted: string,
  print: Print,
): void {
  const seconds = parts.map((part) => ({ name: part.name, seconds: secondsOf(part, rates) }));
  const sumOf = (all: readonly Range[], scale: number): Range => ({
    right: all.reduce((sum, one) => sum + one.right, 0) / scale,
    most: all.reduce((sum, one) => sum + one.most, 0) / scale,
  });
  const total = sumOf(
    seconds.map((one) => one.seconds),
    1,
  );
  print(`Time: ${durationRange(total, knowsRight)}`);
  for (const one of seconds) print(`  ${one.name}: ${durationRange(one.seconds, knowsRight)}`);
  print(`  This rests on ${rates.basis}`);
  if (total.right > 86_400)
    print(
      `  For comparison, by arithmetic alone: an adapter that sustained ${cardRate / 1e12} TFLOP/s throughout would take ${durationRange(sumOf(parts.map(flopsOf), cardRate), knowsRight)}.`,
    );
  print(`  ${uncounted}`);
  print("");
}

export function printDisk(disk: DiskPlan, out: string, print: Print): void {
  const end = [...disk.parts.values()].reduce((sum, bytes) => sum + bytes, 0);
  print(
    `Disk: about ${formatBytes(end)} in ${out}; at most ${formatBytes(disk.peak)} while it runs; ${freeDisk(out, disk.peak)}`,
  );
  for (const [part, bytes] of disk.parts) if (bytes > 0) print(`  ${part}: ${formatBytes(bytes)}`);
}

/** A part of the memory plan: computed without a limit, and again with it to learn how the part would fit. */
export interface PlannedMemory {
  readonly name: string;
  plan(limit: MemoryLimit | null): Promise<MemoryPlan>;
  /** Printed after the part's line. */
  more?(): string;
}

/**
 * Prints the memory of each part, and how one that does not fit would.
 * @param further  other refusals: called at the end, throws OutOfMemoryError
 * @returns whether everything fits, as far as is known
 */
export async function printMemory(
  backend: Backend,
  parts: readonly PlannedMemory[],
  print: Print,
  further: () => Promise<unknown> = async () => {},
): Promise<boolean> {
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
  for (const part of parts) {
    const plan = await part.plan(null);
    print(`  ${part.name}: ${describePlan(plan)}`);
    if (limit !== null && plan.totalBytes > limit.bytes) await told(() => part.plan(limit));
    if (part.more !== undefined) print(`  ${part.more()}`);
  }
  await told(further);
  if (limit === null) print("  WebGPU does not tell how much memory a GPU has: compare with the card's.");
  else if (refusals.length === 0) print(`  It fits: ${limit.what} ${formatBytes(limit.bytes)}.`);
  for (const refusal of refusals) print(`  It does not fit here. ${refusal}`);
  print("");
  return refusals.length === 0;
}

const answers = (knowsRight: boolean): string =>
  knowsRight
    ? "first number: answers as long as right ones; second: every answer of maximum length"
    : "every answer of maximum length; this environment does not tell how long right ones are";

/** The table of conversations, tokens and operations. */
export function workTable(parts: readonly WorkPart[], knowsRight: boolean): string[] {
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
