// The frame of every command of the project: flags, --help, errors, signals, exit codes.
//
//   0    done
//   1    a bug in this program: the stack is shown
//   2    a mistake of the user, or a failure of the machine: one message that says how to fix it
//   130  stopped by Ctrl-C or kill, after saving
import { existsSync, fstatSync, readFileSync, writeSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { asError, FileError, isToldAlone, UserError } from "./errors.ts";
import { explainSystemError, writeAll, writeAtomic } from "./files.ts";
import { createProgress, type Progress } from "./progress.ts";
import {
  resolveSettings,
  type Settings,
  type SettingsTree,
  type Source,
  settingsError,
  type Values,
  valuesIn,
  withValues,
} from "./settings.ts";
import { type CommandLine, readFlags, readTomlFile } from "./settings-sources.ts";
import { flagsHelp, settingsTemplate, wrap } from "./settings-text.ts";

export interface Positional {
  /** As it stands in the usage line: "STUDY.toml". */
  name: string;
  meaning: string;
  required?: boolean;
  /** Takes all remaining positionals; only the last one may. */
  many?: boolean;
}

export interface Command<D extends SettingsTree> {
  /** As it is typed: "node landscape/run.ts". */
  name: string;
  summary: string;
  settings: Settings<D>;
  positional?: readonly Positional[];
  /** Command lines to try, and what each is for; shown by --help. */
  examples?: readonly (readonly [line: string, meaning: string])[];
  /** The TOML files to read between defaults and flags, given positionals and flags: later ones win. */
  settingsFiles?(positionals: readonly string[], flags: Source): readonly string[];
  /** Further sources between the settings files and the flags, such as another program's settings. */
  moreSources?(files: readonly Source[], flags: Source): readonly Source[];
  /**
   * Called with the values of files and flags before they are checked: the place to add settings to the declaration.
   */
  prepare?(sources: readonly Source[]): Promise<void>;
  /** What `--dry-run` prints, for --help. The command has the flag if this is given; `main` must then implement it. */
  dryRun?: string;
  /** @returns the exit code, if it is not 0: for a command that compares */
  main(context: CommandContext<D>): Promise<void> | Promise<number>;
}

export interface CommandContext<D extends SettingsTree> {
  values: Values<D>;
  /** Keys of the settings that the command line itself gives. */
  given: ReadonlySet<string>;
  /** The values of files and flags; later ones win. */
  sources: readonly Source[];
  positionals: string[];
  progress: Progress;
  /**
   * Aborted by Ctrl-C or kill: save and return (or throw the signal's reason). A second signal ends the process at
   * once.
   */
  signal: AbortSignal;
  verbose: boolean;
  /** --dry-run: print the plan of the work, and write and download nothing. */
  isDryRun: boolean;
}

const switches = ["help", "version", "verbose", "quiet", "write-settings"] as const;

function switchesOf({ dryRun }: Pick<Command<SettingsTree>, "dryRun">): readonly string[] {
  return dryRun === undefined ? switches : [...switches, "dry-run"];
}

/** From 22.18 on Node runs TypeScript directly. The package contains JavaScript, which Node 20 runs. */
const isSource = import.meta.url.endsWith(".ts");
const oldestNode = isSource ? ([22, 18] as const) : ([20, 0] as const);

/**
 * Whether this process runs in the Node that the project installs for itself. Then `node` alone may be an older one of the
 * machine, and `npx node` is what a user types.
 */
const isInstalledNode = /[\\/]node_modules[\\/]/.test(process.execPath);

let renamed: ReadonlyMap<string, string> = new Map();

/** From this call on, help and messages call commands by these names: "node landscape/run.ts" → "foothold study". */
export function renameCommands(names: ReadonlyMap<string, string>): void {
  renamed = names;
}

/** `node` before one of the project's commands, without `npx`. */
const bareCommand = /(?<!npx )\bnode (?=(?:model|rl|landscape|bench)\/[\w/-]+\.ts\b)/g;

/** A text with the commands' names as the user types them. */
export function inOwnWords(text: string): string {
  let result = text;
  for (const [name, other] of renamed) result = result.replaceAll(name, other);
  return isSource && isInstalledNode ? result.replace(bareCommand, "npx node ") : result;
}

/** Runs a command with this process's arguments and ends the process: an open GPU would keep it alive. */
export async function runCommand<D extends SettingsTree>(command: Command<D>): Promise<never> {
  const argv = process.argv.slice(2);
  const verbose = argv.includes("--verbose");
  process.stdout.on("error", (thrown) => end(isReaderGone(thrown) ? 0 : report(cutOutput(thrown), verbose)));
  writeWholeOutput();
  process.stderr.on("error", () => {});
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (thrown: unknown) => end(report(thrown, verbose)));
  process.on("exit", sayIfUnfinished);

  let code: number;
  const stop = stopOnSignals();
  try {
    const ended = await run(command, argv, stop.signal);
    code = stop.signal.aborted ? 130 : ended;
  } catch (thrown) {
    const stopped = stop.signal.aborted && (thrown === stop.signal.reason || asError(thrown).name === "AbortError");
    code = stopped ? 130 : report(thrown, verbose);
  } finally {
    stop.ignore();
  }
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  end(code);
}

/** The reader of the output may have gone (| head): that is no error, and the result is no longer needed. */
const isReaderGone = (thrown: Error): boolean => "code" in thrown && thrown.code === "EPIPE";

function cutOutput(thrown: Error): Error {
  const known = explainSystemError(thrown, "standard output");
  return known === null
    ? thrown
    : new FileError(`${known.message} What was written there is cut off: it is not the whole output.`, {
        cause: thrown,
      });
}

/**
 * Node writes to a file by one call, which on an almost full disk writes only a part of the bytes, and looks at neither the
 * count nor the rest: the output would be cut off without an error.
 */
function writeWholeOutput(): void {
  const { stdout } = process;
  if (!fstatSync(stdout.fd).isFile()) return;
  stdout._write = (chunk: Uint8Array | string, encoding, done) => {
    try {
      writeAll(stdout.fd, typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk);
    } catch (thrown) {
      done(asError(thrown));
      return;
    }
    done();
  };
}

let isEnded = false;

/** Ends the process. */
function end(code: number): never {
  isEnded = true;
  process.exit(code);
}

/** A user's module can end the process too. With code 0 and without a word a script would take the command for done. */
function sayIfUnfinished(code: number): void {
  if (isEnded) return;
  if (code === 0) process.exitCode = 1;
  writeSync(
    2,
    `\nThe process was ended with code ${code} before the command was done: some code that it loaded calls process.exit, for ` +
      "example a module of environment.module, or waits for something that never comes. What was written until then is kept.\n",
  );
}

async function run<D extends SettingsTree>(command: Command<D>, argv: string[], signal: AbortSignal): Promise<number> {
  expectNode(process.versions.node);
  const { settings } = command;
  const readFiles = ({ positionals, source }: CommandLine): Source[] => {
    const files = (command.settingsFiles?.(positionals, source) ?? []).map((file) => readTomlFile(settings, file));
    return [...files, ...(command.moreSources?.(files, source) ?? [])];
  };
  const known = switchesOf(command);
  if (command.prepare !== undefined) {
    const line = readFlags(settings, known, argv);
    const asksOnly = ["help", "version", "write-settings"].some((name) => line.switches.has(name));
    await command.prepare([...(asksOnly ? [] : readFiles(line)), line.source]);
  }
  const line = readFlags(settings, known, argv);
  const { source, switches: given, positionals } = line;
  if (given.has("help")) {
    process.stdout.write(`${inOwnWords(helpText(command))}\n`);
    return 0;
  }
  if (given.has("version")) {
    process.stdout.write(`foothold ${projectVersion()}\n`);
    return 0;
  }
  if (given.has("write-settings")) {
    writeSettingsFile(command, line);
    return 0;
  }
  const problems = positionalProblems(command.positional ?? [], positionals);
  if (problems.length > 0) throw settingsError([...problems, ...source.problems]);
  const sources = [...readFiles(line), source];
  for (const note of sources.flatMap(({ notes }) => notes ?? [])) process.stderr.write(`${inOwnWords(note)}\n`);
  const values = resolveSettings(settings, sources);
  for (const { key, where } of source.given)
    if (!settings.applies(key, values)) process.stderr.write(`${where}: has no effect with the other settings\n`);
  const progress = createProgress({ quiet: given.has("quiet"), words: inOwnWords });
  try {
    const keys = new Set(source.given.map(({ key }) => key));
    const code = await command.main({
      ...{ values, given: keys, sources, positionals, progress, signal },
      verbose: given.has("verbose"),
      isDryRun: given.has("dry-run"),
    });
    return code ?? 0;
  } finally {
    progress.close();
  }
}

/**
 * `--write-settings FILE [BASE]`: a file with every setting, commented out; with BASE, its values, and `extends =
 * BASE`.
 */
function writeSettingsFile<D extends SettingsTree>(command: Command<D>, { positionals, source }: CommandLine): void {
  const { settings, settingsFiles, moreSources, name } = command;
  const [file, base, ...rest] = positionals;
  if (settingsFiles === undefined) throw settingsError(["unknown flag --write-settings; --help lists all"]);
  if (file === undefined || rest.length > 0)
    throw settingsError([
      `--write-settings: expected a name for the new file, and at most one study that it extends: ${name} --write-settings my-study.toml`,
    ]);
  if (existsSync(file)) throw settingsError([`${file}: already exists and is not replaced. Choose another name.`]);
  const canExtend = settings.byKey.has("extends");
  const paths = base === undefined ? [] : settingsFiles([base], { given: [], problems: [] });
  const files = paths.map((path) => readTomlFile(settings, path));
  const more = moreSources?.(files, source) ?? [];
  for (const note of more.flatMap(({ notes }) => notes ?? [])) process.stderr.write(`${inOwnWords(note)}\n`);
  const values = resolveSettings(settings, [...files, ...more, source]);
  const chosen = new Set([...more, source].flatMap(({ given }) => given.map(({ key }) => key)));
  const active = withValues(
    settings,
    values,
    new Map(canExtend && base !== undefined ? [["extends", pathFrom(file, base)]] : []),
  );
  if (canExtend && base !== undefined) chosen.add("extends");
  writeAtomic(file, settingsTemplate(settings, valuesIn(settings, active, dirname(file)), chosen, `${name} ${file}`));
  process.stdout.write(
    `${file}: every setting with its meaning and value. Remove the # in front of those that you change.\n`,
  );
}

/** The path of one settings file relative to another. A name that is no file (a preset) is kept. */
function pathFrom(file: string, base: string): string {
  return existsSync(base) ? relative(dirname(resolve(file)), resolve(base)).replaceAll("\\", "/") : base;
}

/**
 * Refuses a Node that cannot run this project's TypeScript directly.
 * @throws UserError
 */
export function expectNode(version: string): void {
  const [major, minor] = version.split(".").map(Number);
  if (major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])) return;
  throw new UserError(
    `Node ${version} is too old: ${oldestNode.join(".")} or newer is needed. Use npm start, or put npx before the command ` +
      "(npx node …): both use the Node that npm ci installed.",
  );
}

function positionalProblems(expected: readonly Positional[], given: readonly string[]): string[] {
  const problems: string[] = [];
  for (const [i, { name, required, meaning }] of expected.entries())
    if (required && given.length <= i) problems.push(`${name} is missing: ${meaning}; --help tells more`);
  if (given.length > expected.length && !expected.at(-1)?.many) {
    const wanted = expected.length === 0 ? "none" : expected.map(({ name }) => name).join(" ");
    problems.push(`expected ${wanted}, got ${given.join(" ")}; settings begin with two hyphens, --help lists them`);
  }
  return problems;
}

/** Prints what was thrown, in the form for its kind. @returns the exit code */
function report(thrown: unknown, verbose: boolean): number {
  const known = isToldAlone(thrown) ? thrown : explainSystemError(thrown);
  const error = known ?? asError(thrown);
  if (known && !verbose) process.stderr.write(`${error.name}: ${inOwnWords(error.message)}\n`);
  else process.stderr.write(`${withCauses(error)}\n`);
  return known ? 2 : 1;
}

function withCauses(error: Error): string {
  const text = error.stack ?? `${error.name}: ${error.message}`;
  return error.cause === undefined ? text : `${text}\ncaused by ${withCauses(asError(error.cause))}`;
}

/** The first signal asks the work to stop, the second ends the process. */
function stopOnSignals(): { signal: AbortSignal; ignore(): void } {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const handler = () => {
    if (controller.signal.aborted) end(130);
    // A terminal has just printed ^C on the current line.
    process.stderr.write(`${process.stderr.isTTY ? "\n" : ""}saving, press again to stop at once\n`);
    controller.abort();
  };
  for (const name of names) process.on(name, handler);
  return {
    signal: controller.signal,
    // The work is done: a signal that arrives now must not make a success look like a failure.
    ignore() {
      for (const name of names) process.off(name, handler).on(name, () => {});
    },
  };
}

function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write("", () => resolve());
  });
}

function helpText<D extends SettingsTree>(command: Command<D>): string {
  const positional = command.positional ?? [];
  const usage = positional.map(({ name, required, many }) => {
    const text = many ? `${name}…` : name;
    return required ? text : `[${text}]`;
  });
  if (command.settings.byKey.size > 0) usage.push("[--KEY VALUE]…");
  const width = Math.min(process.stdout.columns || 100, 120);
  return [
    command.summary,
    "",
    `Usage: ${[command.name, ...usage].join(" ")}`,
    ...(isSource && !isInstalledNode
      ? ["  With a Node older than 22.18, write npx node: it uses the Node that npm ci installed."]
      : []),
    ...positional.map(({ name, meaning }) => `  ${name}  ${meaning}`),
    "",
    ...examplesHelp(command.examples ?? []),
    ...(command.settings.byKey.size > 0
      ? [...settingsIntroduction(command), flagsHelp(command.settings, width), ""]
      : []),
    "Common options",
    "  --help, -h   Show this text.",
    "  --version    Show the version of foothold.",
    "  --verbose    Show the stack behind an error message.",
    "  --quiet      Show no progress.",
    ...(command.dryRun === undefined
      ? []
      : wrap(command.dryRun, width - 15).map((text, i) => `${i === 0 ? "  --dry-run    " : " ".repeat(15)}${text}`)),
    ...(command.settingsFiles === undefined
      ? []
      : [
          "  --write-settings FILE [BASE]",
          "               Write a file with every setting, commented out, and stop; BASE: the study it extends.",
        ]),
  ].join("\n");
}

function examplesHelp(examples: readonly (readonly [string, string])[]): string[] {
  if (examples.length === 0) return [];
  const width = Math.max(...examples.map(([line]) => line.length));
  return ["Examples", ...examples.map(([line, meaning]) => `  ${line.padEnd(width)}  ${meaning}`), ""];
}

function settingsIntroduction<D extends SettingsTree>({ settingsFiles }: Command<D>): string[] {
  if (settingsFiles === undefined) return [];
  return [
    "Every setting can also be in a settings file, under its section. Flags win over files, files over the defaults below.",
    "Settings are named section.camelCase; the commands of model/ work on one model, and have plain names (--max-new-tokens).",
    "",
  ];
}

export function projectVersion(): string {
  const parsed: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return typeof parsed === "object" && parsed !== null && "version" in parsed ? String(parsed.version) : "unknown";
}
