// A study of a few seconds as a subprocess, for tests of what a whole run does when things go wrong.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Dotted keys and values, as flags have them. */
export type Flags = Readonly<Record<string, string>>;

/** 3 steps, of which the state is saved after 0, 2 and 3, and 3 × 3 points in two batches around the last checkpoint. */
export const small: Flags = {
  "model.path": "test/fixtures/tiny-warm-start",
  "train.steps": "3",
  "train.promptsPerStep": "2",
  "train.rolloutsPerPrompt": "3",
  "train.checkpoints": "0,3",
  "train.resumeEvery": "2",
  "evaluate.every": "2",
  "evaluate.episodes": "4",
  "landscape.steps": "3",
  "landscape.points": "3",
  "landscape.pointsAtOnce": "5",
  "landscape.reference.prompts": "3",
  "landscape.reference.rollouts": "2",
  "landscape.rollouts.prompts": "4",
  "landscape.simulations": "2",
};

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  /**
   * Without the remarks of Dawn and drivers (engine/host/native-stderr.ts): they are caught on terminals and pipes, but Node
   * gives its children sockets.
   */
  stderr: string;
}

export interface Started {
  child: ChildProcess;
  /** Whether it has written a line of progress; by then it hears signals. */
  hasSpoken(): boolean;
  ended: Promise<Ended>;
}

/** Starts a command of the project. */
export function start(argv: readonly string[], environment: NodeJS.ProcessEnv = {}, cwd = root): Started {
  const child = spawn(process.execPath, argv, {
    cwd,
    env: { ...process.env, CI: "1", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 600_000,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status, signal) =>
      resolve({ status, signal, stdout, stderr: stderr.replace(/^Warning: .*\n(?: {4}at .*\n)*(?:\n)?/gm, "") }),
    );
  });
  return { child, hasSpoken: () => stderr !== "", ended };
}

/** The command line of the small study with some flags otherwise. */
export function studyCommand(out: string, flags: Flags = {}, study = "tiny"): string[] {
  const all = Object.entries({ ...small, ...flags, out });
  return ["landscape/run.ts", study, ...all.flatMap(([key, value]) => [`--${key}`, value])];
}

/** Runs the small study to its end, whatever that is. */
export function runStudy(out: string, flags: Flags = {}, environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return start(studyCommand(out, flags), environment).ended;
}

/** @throws Error unless it ended well */
export function expectDone({ status, signal, stdout, stderr }: Ended): string {
  if (status !== 0) throw new Error(`expected exit code 0, got ${status ?? signal}: ${stdout}${stderr}`);
  return stderr;
}

/** Waits until the condition holds. @throws Error when the command has ended before */
export async function until(what: string, { child, ended }: Started, holds: () => boolean): Promise<void> {
  while (!holds()) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`it ended before ${what}: ${(await ended).stderr}`);
    await setTimeout(5);
  }
}

/**
 * Starts a command and presses Ctrl-C when a file of its run folder has appeared. A command that ended before it heard the
 * signal begins again in an empty folder.
 * @throws Error when it ended otherwise than stopped (130) or done, or was never stopped
 */
export async function interrupt(begin: () => Started, out: string, file: string): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const started = begin();
    await until(`${file} was there`, started, () => started.hasSpoken() && existsSync(join(out, file)));
    started.child.kill("SIGINT");
    const { status, signal, stderr } = await started.ended;
    if (status === 130) return;
    if (status !== 0) throw new Error(`expected exit code 130, got ${status ?? signal}: ${stderr}`);
    rmSync(out, { recursive: true });
  }
  throw new Error("it ended five times without hearing Ctrl-C");
}

/** What an interrupted write left and a resumed run cut off is kept, and is no part of a run. */
const isCutOff = /\.damaged$/;
const mayHoldClocks = /(^|\/)(timings\.jsonl|provenance\.json|tensorboard\/.*)$/;

/** The files below a folder but for those that may hold a clock, and what was cut off. */
export function contents(folder: string): Map<string, Buffer> {
  if (!existsSync(folder)) return new Map();
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(join(folder, file)).isFile() && !mayHoldClocks.test(file) && !isCutOff.test(file))
    .sort();
  return new Map(files.map((file) => [file, readFileSync(join(folder, file))]));
}

/** @throws Error naming the files that differ, or are in one of the two only */
export function expectSame(got: ReadonlyMap<string, Buffer>, expected: ReadonlyMap<string, Buffer>): void {
  if (expected.size === 0) throw new Error("nothing to compare with");
  const names = [...new Set([...expected.keys(), ...got.keys()])];
  const different = names.filter((name) => !expected.get(name)?.equals(got.get(name) ?? Buffer.from("absent")));
  if (different.length > 0) throw new Error(`differs from what was expected: ${different.join(", ")}`);
}

/** One message for people and exit code 2, with each of these texts. */
export function expectRefused({ status, signal, stdout, stderr }: Ended, ...texts: string[]): void {
  if (status !== 2) throw new Error(`expected exit code 2, got ${status ?? signal}: ${stdout}${stderr}`);
  assert.is(stdout, "", "nothing but the message");
  assert.is(stderr.match(/^\w*Error: /gm)?.length, 1, `one message: ${stderr}`);
  assert.not.match(stderr, /^ {4}at /m);
  for (const text of texts) assert.ok(stderr.includes(text), `${JSON.stringify(text)} in ${stderr}`);
}
