// The environments that a run can name. Each has a name, settings (`environment.NAME.*`) and a function that opens it.
// `registerEnvironment` adds an environment from outside the program (docs/extending/environment.md). Code that uses
// this registry does not know any environment by name.
import {
  addSection,
  choice,
  defineSettings,
  integer,
  number,
  resolveSettings,
  type Setting,
  type Settings,
  type SettingsTree,
  settingsError,
  settingValue,
  text,
  type Values,
} from "../../engine/host/index.ts";
import { alphabetSortKind, formerAlphabetSortKeys } from "./alphabet-sort-settings.ts";
import { datasetKind } from "./dataset-settings.ts";
import type { Environment, EnvironmentFile, EnvironmentKind } from "./environment.ts";
import { gsm8kKind } from "./gsm8k.ts";
import { usualLimits } from "./limits.ts";
import type { OpenContext } from "./open-context.ts";
import { loadedModule } from "./user-module.ts";
import { asEnvironmentError, EnvironmentError, isObject, ofEnvironment, shown } from "./user-values.ts";

/** The settings common to all environments. The settings of each environment are added as a section of its name. */
export const environmentSettings = {
  name: text({
    default: alphabetSortKind.name,
    meaning: "the task: alphabet-sort, gsm8k, dataset, or the name of one that environment.module registers",
  }),
  module: text({
    default: "",
    changes: "free",
    isRecorded: true,
    isFile: true,
    meaning:
      "a TypeScript or JavaScript file that registers an environment (docs/extending/environment.md), relative to the settings file that names it, or to the current folder as a flag; empty for none",
  }),
  moduleSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of environment.module; a file with a different one is refused; empty accepts any file",
  }),
  timeLimit: number({
    default: usualLimits.timeLimit,
    above: 0,
    max: 86_400,
    unit: "seconds",
    changes: "free",
    meaning:
      "limit for a call of the environment, such as scoring a conversation; a rollout that exceeds it has failed",
  }),
  maxFailedShare: number({
    default: usualLimits.maxFailedShare,
    min: 0,
    max: 1,
    changes: "free",
    meaning:
      "share of the rollouts of a step, an evaluation or some grid points whose environment may fail; more stop the run",
  }),
  parallelScores: integer({
    default: usualLimits.parallelScores,
    min: 1,
    unit: "conversations",
    changes: "free",
    meaning: "conversations that an asynchronous scorer is given at a time",
  }),
  turn2Template: choice({
    default: "standard",
    options: ["standard", "upstream"],
    meaning:
      "chat template of later user turns: standard, applied to the whole conversation; upstream, to the turn alone, as the study's code did",
  }),
} as const;

/** The chosen name, and a section per environment. */
export type EnvironmentChoice = { readonly name: string; readonly [section: string]: unknown };

interface Registered {
  readonly description: string | null;
  readonly settings: Settings;
  problems(section: unknown): string[];
  open(section: unknown, context: OpenContext): Promise<Environment>;
}

const registered = new Map<string, Registered>();
const sections: Record<string, Setting<unknown> | SettingsTree> = environmentSettings;

/**
 * Registers an environment: `environment.name = NAME` then chooses it, and its settings are under `environment.NAME`.
 * Call it before settings are read.
 * @throws SettingsError when the name is taken or the description is no line of text; Error when a setting's declaration contradicts itself
 */
export function registerEnvironment<const T extends SettingsTree>(kind: EnvironmentKind<T>): void {
  const { name, description = null } = kind;
  if (name in sections)
    throw settingsError([`environment "${name}": the name is taken. Choose a name other than ${names()}.`]);
  if (!isDescription(description))
    throw settingsError([
      `environment "${name}": description: expected a sentence on one line, got ${JSON.stringify(description)}. ` +
        "Give one, or leave description out.",
    ]);
  const declared = defineSettings(kind.settings);
  const valuesOf = (section: unknown): Values<T> => {
    const given = [...declared.byKey.keys()]
      .map((key) => ({ key, value: sectionValue(section, key), where: `environment.${name}` }))
      .filter(({ value }) => value !== undefined);
    return resolveSettings(declared, [{ given, problems: [] }]);
  };
  addSection(sections, name, kind.settings);
  registered.set(name, {
    description,
    settings: declared,
    problems: (section) => {
      const values = valuesOf(section);
      const what = `environment "${name}": check`;
      const found: unknown = ofEnvironment(what, () => kind.check?.(values)) ?? [];
      if (Array.isArray(found) && found.every((line) => typeof line === "string")) return found;
      throw new EnvironmentError(`${what}: expected a list of problems, each a text, got ${shown(found)}`);
    },
    open: async (section, context) => {
      const values = valuesOf(section);
      try {
        return await kind.open(values, context);
      } catch (thrown) {
        throw context.signal?.aborted ? thrown : asEnvironmentError(`environment "${name}": open`, thrown);
      }
    },
  });
}

/** A module in JavaScript may give any value. */
function isDescription(value: unknown): boolean {
  return value === null || (typeof value === "string" && value.trim() !== "" && !/\p{Cc}/u.test(value));
}

function sectionValue(section: unknown, key: string): unknown {
  return typeof section === "object" && section !== null ? settingValue(section, key) : undefined;
}

const names = (): string => [...registered.keys()].join(", ");

/**
 * Opens the environment that the settings choose. Settings missing from its section have their defaults.
 * @throws SettingsError when no environment of this name is registered, or its settings contradict each other
 */
export async function openEnvironment(settings: EnvironmentChoice, context: OpenContext = {}): Promise<Environment> {
  const problems = environmentProblems(settings);
  const kind = registered.get(settings.name);
  if (problems.length > 0 || kind === undefined) throw settingsError(problems);
  const environment = await kind.open(settings[settings.name], context);
  expectEnvironment(settings.name, environment);
  if (environment.name !== settings.name)
    throw settingsError([
      `environment "${settings.name}": it opens as "${environment.name}". Give both the same name.`,
    ]);
  return environment;
}

/** @throws EnvironmentError when what `open` gave is no environment */
function expectEnvironment(name: string, given: unknown): void {
  const problem = (what: string): Error => new EnvironmentError(`environment "${name}": open: ${what}`);
  if (!isObject(given)) throw problem(`expected an object with name and episodes, got ${shown(given)}`);
  const { episodes, heldOutEpisodes } = given;
  if (typeof episodes !== "function") throw problem(`episodes: expected a function of a seed, got ${shown(episodes)}`);
  if (heldOutEpisodes !== undefined && typeof heldOutEpisodes !== "function")
    throw problem(`heldOutEpisodes: expected a function of a seed, or none, got ${shown(heldOutEpisodes)}`);
}

/** What the task is, in the words of the environment's registration; null if it gives none or is not registered. */
export function environmentDescription({ name }: Pick<EnvironmentChoice, "name">): string | null {
  return registered.get(name)?.description ?? null;
}

/** The problems with the chosen environment's settings, in the form that a settings check returns. */
export function environmentProblems(settings: EnvironmentChoice): string[] {
  const { name } = settings;
  const kind = registered.get(name);
  if (kind === undefined) return [`environment.name: expected one of ${names()}, got ${JSON.stringify(name)}`];
  if (builtIn.has(name) && settings["module"] !== "" && loadedModule() !== null) return [unusedModule(settings)];
  return kind.problems(settings[name]).map((line) => `environment.${name}.${line}`);
}

/** A module that registers an environment, while a built-in one is chosen: it would have no effect. */
function unusedModule(settings: EnvironmentChoice): string {
  const added = [...registered.keys()].filter((name) => !builtIn.has(name));
  return (
    `environment.name: ${settings.name} is built in, so environment.module ${settings["module"]} would have no effect. ` +
    (added.length === 0
      ? "It registers no environment (registerEnvironment): correct it, or leave it out"
      : `It registers ${added.join(", ")}: choose that with environment.name, or leave environment.module out`)
  );
}

/** False for the settings of environments that are not chosen. `key` is dotted: "environment.NAME.setting". */
export function environmentApplies(key: string, { name }: EnvironmentChoice): boolean {
  const section = /^environment\.([^.]+)\./.exec(key)?.[1];
  return section === undefined || section === name || !registered.has(section);
}

/** The files that an opened environment was made from, including a user's module, by dotted setting. */
export function environmentFiles({ name, files = [] }: Environment): Map<string, EnvironmentFile> {
  const module = loadedModule();
  return new Map([
    ...(module === null ? [] : [[module.setting, module] as const]),
    ...files.map((file) => [`environment.${name}.${file.setting}`, file] as const),
  ]);
}

/** Keys of `environment.*` in earlier versions, and their present names. */
export const formerEnvironmentKeys: ReadonlyMap<string, string> = new Map(
  formerAlphabetSortKeys.map((key) => [`environment.${key}`, `environment.${alphabetSortKind.name}.${key}`]),
);

registerEnvironment(alphabetSortKind);
registerEnvironment(gsm8kKind);
registerEnvironment(datasetKind);
const builtIn: ReadonlySet<string> = new Set(registered.keys());
