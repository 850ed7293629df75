// Everything that a user can set, declared once.
//
// A declaration is a tree of settings. It determines the typed values, the TOML files that are read and written, the
// flags, --help, the table in the documentation, and whether a run folder can be continued after a change. Values are
// layered (defaults, then files, then flags) and checked at the end, with all problems in one message.
//
//   const settings = defineSettings({ landscape: { points: integer({ default: 7, min: 3, meaning: "…" }) } });
//   resolveSettings(settings, [readTomlFile("study.toml"), flags]).landscape.points      // number
import { isAbsolute, relative } from "node:path";
import { z } from "zod";
import { SettingsError } from "./errors.ts";
import { type OtherNames, unknownSetting } from "./settings-names.ts";

/**
 * What a changed value means for a run folder that was begun. `alters`: its results would differ. `extends`: a larger
 * number or a longer list only adds work. `free`: there is no effect on results (so the value is not kept in the
 * folder). A function decides between the first two: true if the change from one value to the other only adds work.
 */
export type Changes<T> = "alters" | "extends" | "free" | ((before: T, after: T) => boolean);

export type Form = "integer" | "number" | "boolean" | "string" | "choice" | "integers" | "numbers" | "strings";

interface Common<T> {
  default: T;
  /** One line: what it does. */
  meaning: string;
  /** The unit that it is counted in: "steps", "tokens". */
  unit?: string;
  /** Default: "alters". */
  changes?: Changes<T>;
  /**
   * For a free setting: it is kept in the run folder's config.toml all the same, because the study cannot be repeated
   * without it (which model, which file). Default: free settings are not kept.
   */
  isRecorded?: boolean;
  /** Given on the command line only: a settings file that has it is refused. */
  isFlagOnly?: boolean;
  /**
   * The path of a file. A relative one begins at the folder of the settings file that gives it, or at the current folder if a flag
   * gives it. Values always begin at the current folder.
   */
  isFile?: boolean;
}

interface Bounds {
  min?: number;
  max?: number;
  /** As min and max, but the bound itself is excluded. */
  above?: number;
  below?: number;
}

/** One declared setting. Made by `integer`, `number`, `boolean`, `text`, `choice`, `integers`, `numbers`, `texts`. */
export class Setting<T> {
  readonly form: Form;
  readonly default: T;
  readonly meaning: string;
  readonly unit: string;
  readonly schema: z.ZodType<T>;
  /** "an integer from 3 to 201" */
  readonly expected: string;
  /** Whether a run folder's config.toml has it. */
  readonly isRecorded: boolean;
  readonly isFlagOnly: boolean;
  /** Whether it is the path of a file, relative to the settings file that gives it. */
  readonly isFile: boolean;
  /** The possible effect of a change; if it can extend, `holds` tells whether a given change extends or alters. */
  readonly #effect: "alters" | "extends" | "free";
  readonly #extension: { holds(before: T, after: T): boolean };

  constructor(form: Form, common: Common<T>, schema: z.ZodType<T>, expected: string) {
    this.form = form;
    this.default = common.default;
    this.meaning = common.meaning;
    this.unit = common.unit ?? "";
    this.schema = schema;
    this.expected = expected;
    const changes = common.changes ?? "alters";
    this.isRecorded = common.isRecorded ?? changes !== "free";
    this.isFlagOnly = common.isFlagOnly ?? false;
    this.isFile = common.isFile ?? false;
    this.#effect = typeof changes === "function" ? "extends" : changes;
    this.#extension = { holds: typeof changes === "function" ? changes : isMore };
  }

  get isFree(): boolean {
    return this.#effect === "free";
  }

  /** Whether it may grow in a run folder that was begun. */
  get canExtend(): boolean {
    return this.#effect === "extends";
  }

  /** The effect of replacing one value by a different one. Both must fit this setting. */
  effect(before: T, after: T): "alters" | "extends" | "free" {
    return this.canExtend && !this.#extension.holds(before, after) ? "alters" : this.#effect;
  }
}

function isMore(before: unknown, after: unknown): boolean {
  if (Array.isArray(before) && Array.isArray(after)) return before.every((value) => after.includes(value));
  return Number(after) > Number(before);
}

export interface SettingsTree {
  readonly [key: string]: Setting<unknown> | SettingsTree;
}

/** The values that a declaration stands for. */
export type Values<D> = {
  readonly [K in keyof D]: D[K] extends Setting<infer T> ? T : Values<D[K]>;
};

export interface Settings<D extends SettingsTree = SettingsTree> {
  readonly tree: D;
  /**
   * By dotted key, in the order of declaration. Computed from the tree each time, since sections may be added to it.
   */
  readonly byKey: ReadonlyMap<string, Setting<unknown>>;
  check(values: Values<D>): string[];
  readonly names: OtherNames;
  /** Whether a setting has any effect, given the values of the others; if not, it is neither kept nor compared. */
  applies(key: string, values: Values<D>): boolean;
  /** Whether a setting that can extend a run folder alters its results, given the values of the others; or why it does. */
  altersIn(key: string, before: Values<D>, after: Values<D>): boolean | string;
}

/** A value and where it was given. */
export interface Given {
  key: string;
  value: unknown;
  /** "study.toml, line 4" or "--landscape.points 2" */
  where: string;
}

/** The content of one file or command line: values, and problems met while reading it. */
export interface Source {
  given: Given[];
  problems: string[];
  /** Remarks about input that was understood but should be mentioned. */
  notes?: string[];
}

// A tree is walked once, and again only after sections were added: a settings file asks for its keys hundreds of times.
let sectionsAdded = 0;

/** Adds a section to a tree that `defineSettings` may already have declared, alone or in other trees. */
export function addSection(
  tree: Record<string, Setting<unknown> | SettingsTree>,
  name: string,
  section: SettingsTree,
): void {
  tree[name] = section;
  sectionsAdded++;
}

/**
 * @param check  problems between settings, each a sentence that names them; called only if each setting alone is right
 * @param more   names of other programs and former versions; which settings apply (default: all); which ones that can
 *               extend a run folder alter its results, because of the values of others (default: none)
 */
export function defineSettings<const D extends SettingsTree>(
  tree: D,
  check: (values: Values<D>) => string[] = () => [],
  more: {
    names?: OtherNames;
    applies?(key: string, values: Values<D>): boolean;
    altersIn?(key: string, before: Values<D>, after: Values<D>): boolean | string;
  } = {},
): Settings<D> {
  for (const [key, setting] of settingsOf(tree)) {
    if (!setting.schema.safeParse(setting.default).success)
      throw new Error(`setting ${key}: its default does not fit its own bounds`);
  }
  let byKey = settingsOf(tree);
  let sectionsThen = sectionsAdded;
  return {
    tree,
    get byKey() {
      if (sectionsThen !== sectionsAdded) {
        byKey = settingsOf(tree);
        sectionsThen = sectionsAdded;
      }
      return byKey;
    },
    check,
    names: more.names ?? {},
    applies: more.applies ?? (() => true),
    altersIn: more.altersIn ?? (() => false),
  };
}

function settingsOf(node: SettingsTree, prefix = ""): Map<string, Setting<unknown>> {
  const found = new Map<string, Setting<unknown>>();
  for (const [name, child] of Object.entries(node)) {
    if (!/^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$/.test(name))
      throw new Error(`setting ${prefix}${name}: a name is letters and digits, and single hyphens between them`);
    if (child instanceof Setting) found.set(prefix + name, child);
    else for (const [key, setting] of settingsOf(child, `${prefix}${name}.`)) found.set(key, setting);
  }
  return found;
}

export function integer(declared: Common<number> & Bounds): Setting<number> {
  return new Setting("integer", declared, bounded(z.int(), declared), `an integer${boundsText(declared)}`);
}

export function number(declared: Common<number> & Bounds): Setting<number> {
  return new Setting("number", declared, bounded(z.number(), declared), `a number${boundsText(declared)}`);
}

export function boolean(declared: Common<boolean>): Setting<boolean> {
  return new Setting("boolean", declared, z.boolean(), "true or false");
}

export function text(declared: Common<string>): Setting<string> {
  return new Setting("string", declared, z.string(), "a text");
}

export function choice<const T extends string>(declared: Common<NoInfer<T>> & { options: readonly T[] }): Setting<T> {
  const options = declared.options.map((option) => JSON.stringify(option)).join(", ");
  return new Setting("choice", declared, z.enum(declared.options), `one of ${options}`);
}

export function integers(declared: Common<readonly number[]> & Bounds & Length): Setting<readonly number[]> {
  const schema = lengthBounded(z.array(bounded(z.int(), declared)), declared);
  return new Setting("integers", declared, schema, listText("integers", declared));
}

export function numbers(declared: Common<readonly number[]> & Bounds & Length): Setting<readonly number[]> {
  const schema = lengthBounded(z.array(bounded(z.number(), declared)), declared);
  return new Setting("numbers", declared, schema, listText("numbers", declared));
}

export function texts(declared: Common<readonly string[]> & Length): Setting<readonly string[]> {
  return new Setting("strings", declared, lengthBounded(z.array(z.string()), declared), listText("texts", declared));
}

interface Length {
  minLength?: number;
}

function bounded(schema: z.ZodNumber, { min, max, above, below }: Bounds): z.ZodNumber {
  let result = schema;
  if (min !== undefined) result = result.gte(min);
  if (max !== undefined) result = result.lte(max);
  if (above !== undefined) result = result.gt(above);
  if (below !== undefined) result = result.lt(below);
  return result;
}

function lengthBounded<T extends z.ZodType>(schema: z.ZodArray<T>, { minLength }: Length): z.ZodArray<T> {
  return minLength === undefined ? schema : schema.min(minLength);
}

function boundsText({ min, max, above, below }: Bounds): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  const low = min !== undefined ? `at least ${min}` : above !== undefined ? `above ${above}` : "";
  const high = max !== undefined ? `at most ${max}` : below !== undefined ? `below ${below}` : "";
  return low || high ? `, ${[low, high].filter((part) => part !== "").join(" and ")}` : "";
}

function listText(what: string, declared: Bounds & Length): string {
  const count = declared.minLength === undefined ? "a list of" : `a list of at least ${declared.minLength}`;
  return `${count} ${what}${boundsText(declared)}`;
}

/** The default value of every setting. */
export function defaultSettings<D extends SettingsTree>(settings: Settings<D>): Values<D> {
  return resolveSettings(settings, []);
}

/**
 * Defaults, overridden by each source in turn.
 * @throws SettingsError that lists every problem: unknown names with the nearest valid one; values of a wrong type or
 *         out of bounds, with where they were given; and the problems that `check` finds
 */
export function resolveSettings<D extends SettingsTree>(settings: Settings<D>, sources: readonly Source[]): Values<D> {
  const problems = sources.flatMap((source) => source.problems);
  const { byKey } = settings;
  const flat = new Map<string, unknown>([...byKey].map(([key, setting]) => [key, setting.default]));
  for (const { key, value, where } of sources.flatMap((source) => source.given)) {
    const setting = byKey.get(key);
    if (setting === undefined) problems.push(unknownSetting(settings, key, valueText(value), where));
    else if (setting.schema.safeParse(value).success) flat.set(key, value);
    else problems.push(`${key}: expected ${setting.expected}, got ${valueText(value)} (${where}): ${setting.meaning}`);
  }
  // The only place where checked values get their declared type: each has passed the schema of its setting.
  const values = nest(settings.tree, flat) as Values<D>;
  if (problems.length === 0) for (const problem of settings.check(values)) problems.push(problem);
  if (problems.length > 0) throw settingsError(problems);
  return values;
}

export function settingsError(problems: readonly string[]): SettingsError {
  if (problems.length === 1) return new SettingsError(problems[0]);
  return new SettingsError(`${problems.length} settings are wrong:\n${problems.map((p) => `  ${p}`).join("\n")}`);
}

/** The values as a settings file in `folder` has them: paths of files begin there (`isFile`). */
export function valuesIn<D extends SettingsTree>(settings: Settings<D>, values: Values<D>, folder: string): Values<D> {
  const moved = [...settings.byKey].flatMap(([key, { isFile }]) => {
    const path = isFile ? settingValue(values, key) : undefined;
    return typeof path === "string" && path !== "" && !isAbsolute(path) ? [[key, relative(folder, path)] as const] : [];
  });
  return withValues(settings, values, new Map(moved));
}

/** The same values except some, given by dotted key. @throws SettingsError as `resolveSettings` */
export function withValues<D extends SettingsTree>(
  settings: Settings<D>,
  values: Values<D>,
  others: ReadonlyMap<string, unknown>,
): Values<D> {
  // A value may be missing where a section was added after the values were made: it then has its default.
  const given = [...settings.byKey.keys()]
    .map((key) => ({
      key,
      value: others.has(key) ? others.get(key) : settingValue(values, key),
      where: "set by the program",
    }))
    .filter(({ value }) => value !== undefined);
  return resolveSettings(settings, [{ given, problems: [] }]);
}

/** The value of a dotted key. */
export function settingValue(values: object, key: string): unknown {
  let at: unknown = values;
  for (const name of key.split(".")) at = typeof at === "object" && at !== null ? Reflect.get(at, name) : undefined;
  return at;
}

/** A value as it is shown to people. */
export function valueText(value: unknown): string {
  if (typeof value === "number" || value instanceof Date) return String(value);
  return JSON.stringify(value) ?? String(value);
}

/** One setting that differs; `line` reads "landscape.points: 7 -> 9". */
export interface SettingDifference {
  key: string;
  effect: "alters" | "extends" | "free";
  line: string;
}

/** Every setting whose value in `after` differs from `before`, and the effect of the change on a run folder. */
export function diffSettings<D extends SettingsTree>(
  settings: Settings<D>,
  before: Values<D>,
  after: Values<D>,
): SettingDifference[] {
  const differences: SettingDifference[] = [];
  for (const [key, setting] of settings.byKey) {
    const [was, is] = [settingValue(before, key), settingValue(after, key)];
    if (valueText(was) === valueText(is) || !(settings.applies(key, before) || settings.applies(key, after))) continue;
    const altered = setting.canExtend && settings.altersIn(key, before, after);
    const line = `${key}: ${valueText(was)} -> ${valueText(is)}${typeof altered === "string" ? ` (${altered})` : ""}`;
    const effect = altered !== false ? "alters" : setting.effect(was, is);
    differences.push({ key, effect, line });
  }
  return differences;
}

function nest(node: SettingsTree, flat: ReadonlyMap<string, unknown>, prefix = ""): object {
  const entries = Object.entries(node).map(([name, child]) => {
    const key = prefix + name;
    return [name, child instanceof Setting ? flat.get(key) : nest(child, flat, `${key}.`)];
  });
  return Object.fromEntries(entries);
}
