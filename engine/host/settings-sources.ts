// Sources of values: TOML files and flags. Only the syntax of a file or command line is checked here.
import { dirname, isAbsolute, join } from "node:path";
import { parse } from "smol-toml";
import { asError } from "./errors.ts";
import { readText } from "./files.ts";
import { type Form, type Settings, type Source, settingsError } from "./settings.ts";
import { unknownFlag } from "./settings-names.ts";

/**
 * The values that a TOML file gives. Paths of files that begin at the file's folder (`isFile`) are given from the current one.
 * @throws FileError when it cannot be read
 * @throws SettingsError when it is not TOML: file, line, column
 */
export function readTomlFile(settings: Settings, path: string): Source {
  const source = readToml(settings, readText(path), path);
  const given = source.given.map((one) =>
    settings.byKey.get(one.key)?.isFile && typeof one.value === "string" && one.value !== "" && !isAbsolute(one.value)
      ? { ...one, value: join(dirname(path), one.value) }
      : one,
  );
  return { ...source, given };
}

/** As `readTomlFile`, for a text; `name` is used in messages. */
export function readToml(settings: Settings, text: string, name: string): Source {
  let table: unknown;
  try {
    table = parse(text);
  } catch (thrown) {
    const error = asError(thrown);
    const place = "line" in error && "column" in error ? `, line ${error.line}, column ${error.column}` : "";
    throw settingsError([`${name}${place}: ${error.message.split("\n")[0].replace("Invalid TOML document: ", "")}`]);
  }
  const notes: string[] = [];
  const source: Source = { given: [], problems: [], notes };
  const lines = linesOfKeys(text);
  const { renamed, elsewhere } = settings.names;
  const walk = (node: object, prefix: string) => {
    for (const [last, value] of Object.entries(node)) {
      const key = prefix + last;
      const line = lines.get(key);
      const where = line === undefined ? name : `${name}, line ${line}`;
      const other = elsewhere?.get(key);
      if (isTable(value) && isSection(settings, key)) walk(value, `${key}.`);
      else if (isTable(value) && other !== undefined)
        notes.push(`${name}: its section [${key}] is left out here: only ${other} reads it`);
      else {
        const now = renamed?.get(key);
        if (now !== undefined) notes.push(`${where}: ${key} is now ${now}`);
        if (other !== undefined) continue;
        if (settings.byKey.get(key)?.isFlagOnly)
          source.problems.push(`${where}: --${key} is a flag, and not for files`);
        else source.given.push({ key: now ?? key, value, where });
      }
    }
  };
  if (isTable(table)) walk(table, "");
  return source;
}

function isTable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function isSection(settings: Settings, key: string): boolean {
  return [...settings.byKey.keys()].some((name) => name.startsWith(`${key}.`));
}

/**
 * The line on which each key or table begins. Keys in quotes or inside inline tables are not found: messages name the
 * file only.
 */
function linesOfKeys(text: string): Map<string, number> {
  const lines = new Map<string, number>();
  let section = "";
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*\[\s*([\w.-]+)\s*\]/.exec(line)?.[1];
    const key = header ?? /^\s*([\w.-]+)\s*=/.exec(line)?.[1];
    if (key === undefined) continue;
    if (header !== undefined) section = `${header}.`;
    const full = header ?? section + key;
    if (!lines.has(full)) lines.set(full, index + 1);
  }
  return lines;
}

export interface CommandLine {
  source: Source;
  /** Which of the command line's own flags were given: "help", "verbose". */
  switches: Set<string>;
  positionals: string[];
}

/**
 * Reads `--key value`, `--key=value`, `--switch`, `--no-switch`. Everything else is a positional, as is everything
 * after `--`. A list is written with commas: `--statistics.radii 0.01,0.02`. Of a flag that is given twice the last one
 * counts; a list given twice is a problem, since whoever writes it so expects both.
 * @param switches  flags that are no settings and take no value; the first one also has a short form, its first letter
 *                  (-h)
 */
export function readFlags(settings: Settings, switches: readonly string[], argv: readonly string[]): CommandLine {
  const source: Source = { given: [], problems: [] };
  const line: CommandLine = { source, switches: new Set(), positionals: [] };
  const formOf = (key: string | undefined) => (key === undefined ? undefined : settings.byKey.get(key)?.form);
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i];
    if (argument === "--") {
      for (const rest of argv.slice(i + 1)) line.positionals.push(rest);
      break;
    }
    const flag = /^--([^=]+)(?:=(.*))?$/s.exec(argument);
    if (flag === null) {
      if (argument === `-${switches[0]?.[0]}`) line.switches.add(switches[0]);
      else if (/^-[A-Za-z]/.test(argument)) source.problems.push(unknownFlag(settings, argument, switches));
      else line.positionals.push(argument);
      continue;
    }
    const name = flag[1];
    const inline: string | undefined = flag[2];
    const positive = /^no-(.+)$/.exec(name)?.[1];
    const form = formOf(name);
    if (switches.includes(name) || (form === undefined && formOf(positive) === "boolean")) {
      if (inline !== undefined) source.problems.push(`--${name} takes no value, got ${JSON.stringify(inline)}`);
      else if (switches.includes(name)) line.switches.add(name);
      else source.given.push({ key: positive ?? name, value: false, where: argument });
    } else if (form === "boolean") {
      source.given.push({ key: name, value: inline === undefined || fromText(form, inline), where: argument });
    } else {
      const next = argv.at(i + 1);
      const follows = inline === undefined && next !== undefined && !next.startsWith("--");
      if (follows) i++;
      const text = follows ? next : inline;
      const where = follows ? `${argument} ${next}` : argument;
      if (form === undefined) source.problems.push(unknownFlag(settings, `--${name}`, switches));
      else if (text === undefined)
        source.problems.push(`--${name}: expected ${settings.byKey.get(name)?.expected}, got no value`);
      else if (isList(form) && source.given.some(({ key }) => key === name))
        source.problems.push(
          `--${name} is given twice, and the second list would replace the first: write one, with commas`,
        );
      else source.given.push({ key: name, value: fromText(form, text), where });
    }
  }
  return line;
}

/** Converts a flag's text to its value. A text that cannot be converted stays a text, and the check then refuses it. */
function fromText(form: Form, text: string): unknown {
  switch (form) {
    case "integer":
    case "number":
      return numberFrom(text);
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "string":
    case "choice":
      return text;
    case "integers":
    case "numbers":
      return listFrom(text).map(numberFrom);
    case "strings":
      return listFrom(text);
    default:
      return form satisfies never;
  }
}

const isList = (form: Form): boolean => form === "integers" || form === "numbers" || form === "strings";

function numberFrom(text: string): number | string {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
}

function listFrom(text: string): string[] {
  return text === "" ? [] : text.split(",").map((part) => part.trim());
}
