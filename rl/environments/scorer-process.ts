// A scorer in any language: a command that runs as long as the run does. It gets one JSON line per conversation on its
// standard input, and writes one line per verdict on its standard output, in any order:
//
//   in   {"id": 1, "systemPrompt": null, "prompt": "…", "completion": "…", "answer": "42"}
//   out  {"id": 1, "reward": 0.5}   or, with parts of the reward, {"id": 1, "reward": 0.5, "rewards": {"form": 1}}
//        {"id": 1, "error": "why it cannot be scored"}
//
// If it ends, or writes a line that is none of these, the conversations under way fail and it is started again for the next
// one. It is not started again after three starts in a row without a verdict. A conversation that exceeds its time limit
// fails alone; if the process has written nothing since that conversation was sent, it hangs, and is ended.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { z } from "zod";
import type { Reward } from "./environment.ts";

export interface ScorerRequest {
  readonly systemPrompt: string | null;
  readonly prompt: string;
  readonly completion: string;
  readonly answer: string | null;
}

const reply = z.object({
  id: z.int(),
  reward: z.unknown().optional(),
  rewards: z.unknown().optional(),
  error: z.string().nullish(),
});

const startsWithoutVerdict = 3;
/** The longest line of a verdict; more is the output of a program that does not end its lines, and would fill the memory. */
const mostCharacters = 16 * 2 ** 20;
/** How much of its last output a message repeats. */
const shownCharacters = 400;

interface Pending {
  readonly sentAt: number;
  done(verdict: Reward): void;
  fail(error: Error): void;
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

export class ScorerProcess {
  readonly #command: string;
  readonly #pending = new Map<number, Pending>();
  /** Sent, and given up at the time limit: a late verdict is no error. */
  readonly #expired = new Set<number>();
  #child: Child | null = null;
  #nextId = 1;
  #fruitlessStarts = 0;
  /** Counts the lines received, so that "since" needs no clock. */
  #lines = 0;
  #linesAtStart = 0;
  /** What it has written after its last line. */
  #rest = "";
  #errorOutput = "";

  /** @param command  for the shell; it is started with the first conversation */
  constructor(command: string) {
    this.#command = command;
  }

  /** The verdict on a conversation. @throws Error naming the command, when it gives none */
  score(request: ScorerRequest, signal?: AbortSignal): Promise<Reward> {
    return new Promise((done, fail) => {
      const id = this.#nextId++;
      const child = this.#started();
      this.#pending.set(id, { sentAt: this.#lines, done, fail });
      this.#hold(child, true);
      signal?.addEventListener("abort", () => this.#expire(id), { once: true });
      child.stdin.write(`${oneLine({ id, ...request })}\n`);
    });
  }

  /** Ends the process. */
  close(): void {
    this.#end("was ended");
  }

  #started(): Child {
    if (this.#child !== null) return this.#child;
    if (this.#fruitlessStarts >= startsWithoutVerdict)
      throw this.#error(`ended ${startsWithoutVerdict} times in a row without a verdict, and is not started again`);
    this.#fruitlessStarts++;
    this.#errorOutput = "";
    // A group of its own, so that a program that the shell starts can be ended too.
    const child = spawn(this.#command, { shell: true, stdio: ["pipe", "pipe", "pipe"], detached: true });
    this.#child = child;
    this.#expired.clear();
    this.#linesAtStart = this.#lines;
    this.#rest = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (this.#child !== child) return;
      const parts = text.split("\n");
      parts[0] = this.#rest + parts[0];
      this.#rest = parts.pop() ?? "";
      for (const part of parts) if (this.#child === child && part.trim() !== "") this.#take(part);
      if (this.#child === child && this.#rest.length > mostCharacters)
        this.#end(`wrote more than ${mostCharacters} characters without the end of a line: ${begin(this.#rest)}`);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-shownCharacters);
    });
    // A broken pipe: the process has ended, which "close" tells.
    child.stdin.on("error", () => {});
    child.on("error", (error) => this.#lose(child, `cannot be started: ${error.message}`));
    child.on("close", (code, killed) => this.#lose(child, `ended with ${killed ?? `exit code ${code}`}`));
    process.once("exit", this.#atExit);
    return child;
  }

  #take(line: string): void {
    this.#lines++;
    const found = reply.safeParse(parsed(line));
    if (!found.success) {
      this.#end(`wrote a line that is no verdict: ${begin(line)}`);
      return;
    }
    const { id, reward, rewards, error } = found.data;
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      if (!this.#expired.delete(id)) this.#end(`wrote a verdict on ${id}, which it was not asked for`);
      return;
    }
    this.#fruitlessStarts = 0;
    this.#pending.delete(id);
    if (this.#pending.size === 0 && this.#child !== null) this.#hold(this.#child, false);
    if (error !== undefined && error !== null) pending.fail(this.#error(`gave an error: ${error}`));
    else if (typeof reward !== "number" || !Number.isFinite(reward))
      pending.fail(this.#error(`expected a number as "reward", got ${JSON.stringify(reward) ?? "none"}`));
    else {
      // Programs that write every field of an object write null for one that is not set. verdictOf looks at the others.
      const isGiven = rewards !== undefined && rewards !== null;
      pending.done({ reward, ...(isGiven && { parts: { rewards: rewards as Record<string, number> } }) });
    }
  }

  #expire(id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#expired.add(id);
    // Most languages keep what a program writes to a pipe until some kilobytes are there.
    const buffered =
      this.#lines === this.#linesAtStart
        ? ". It has written nothing yet: if it gives verdicts, it must flush its output after each line, in Python print(…, flush=True)"
        : "";
    const begun = this.#rest.trim() === "" ? buffered : `; what it wrote last has no end of line: ${begin(this.#rest)}`;
    pending.fail(this.#error(`gave no verdict within the time limit${begun}`));
    if (pending.sentAt === this.#lines) this.#end("gave no verdict within the time limit of another conversation");
    else if (this.#pending.size === 0 && this.#child !== null) this.#hold(this.#child, false);
  }

  /** Ends the process; conversations under way fail. */
  #end(why: string): void {
    const child = this.#child;
    if (child === null) return;
    this.#kill(child);
    this.#lose(child, why);
  }

  #kill(child: Child): void {
    try {
      if (child.pid === undefined) return;
      if (process.platform === "win32") child.kill("SIGKILL");
      else process.kill(-child.pid, "SIGKILL");
    } catch {
      // it has ended by itself
    }
  }

  #lose(child: Child, why: string): void {
    if (this.#child !== child) return;
    this.#child = null;
    process.off("exit", this.#atExit);
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const { fail } of lost) fail(this.#error(why));
  }

  readonly #atExit = (): void => {
    if (this.#child !== null) this.#kill(this.#child);
  };

  /** Whether Node waits for the process before it exits: only while verdicts are awaited. */
  #hold(child: Child, isAwaited: boolean): void {
    for (const part of [child, child.stdin, child.stdout, child.stderr])
      if (isAwaited && "ref" in part && typeof part.ref === "function") part.ref();
      else if (!isAwaited && "unref" in part && typeof part.unref === "function") part.unref();
  }

  #error(what: string): Error {
    const said = this.#errorOutput.trim();
    return new Error(`scorer "${this.#command}": ${what}${said === "" ? "" : `. Its last error output: ${said}`}`);
  }
}

/** JSON without the characters that some languages take for the end of a line. */
function oneLine(value: object): string {
  return JSON.stringify(value).replace(
    /[\u0085\u2028\u2029]/g,
    (end) => `\\u${end.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const begin = (text: string): string => text.slice(0, shownCharacters);

/**
 * A line of JSON; null if it is none. Python's json writes NaN and Infinity, which JSON does not have: they become texts, so that a
 * reward of NaN fails its conversation alone, as a reward that is no number.
 */
function parsed(line: string): unknown {
  for (const text of [line, line.replace(/([:[,]\s*)(NaN|-?Infinity)(?=\s*[,}\]])/g, '$1"$2"')])
    try {
      return JSON.parse(text);
    } catch {
      // the next one
    }
  return null;
}
