// Settings as text for people: the resolved config.toml, --help, and the table in the documentation.
import { stringify } from "smol-toml";
import { type Setting, type Settings, type SettingsTree, settingValue, type Values } from "./settings.ts";

/**
 * The canonical TOML of these values, in the order of the declaration, each setting with its meaning. Reading it gives
 * the same values. It leaves out settings that do not apply, and free settings, so that a folder does not depend on
 * them (except those that say what the study began from).
 */
export function writeToml<D extends SettingsTree>(settings: Settings<D>, values: Values<D>): string {
  const blocks: string[] = [];
  for (const [section, keys] of bySection(settings)) {
    const lines = keys.flatMap(([key, setting]) => {
      if (!setting.isRecorded || !settings.applies(key, values)) return [];
      const assignment = stringify({ [lastPart(key)]: settingValue(values, key) }).trim();
      return [`# ${describe(setting)}`, assignment];
    });
    if (lines.length > 0) blocks.push([...(section === "" ? [] : [`[${section}]`]), ...lines].join("\n"));
  }
  return `${blocks.join("\n\n")}\n`;
}

/** Every setting that applies, with its value, as TOML without comments: what a command was understood to mean. */
export function resolvedToml<D extends SettingsTree>(settings: Settings<D>, values: Values<D>): string {
  const blocks: string[] = [];
  for (const [section, keys] of bySection(settings)) {
    const lines = keys
      .filter(([key, setting]) => !setting.isFlagOnly && settings.applies(key, values))
      .map(([key]) => stringify({ [lastPart(key)]: settingValue(values, key) }).trim());
    if (lines.length > 0) blocks.push([...(section === "" ? [] : [`[${section}]`]), ...lines].join("\n"));
  }
  return blocks.join("\n\n");
}

/**
 * A settings file to start from: every setting that applies, with meaning, unit, bounds and default. Its value is
 * commented out unless the setting is one of `chosen`.
 * @param command  the command to run with the file, for the comment at its top
 */
export function settingsTemplate<D extends SettingsTree>(
  settings: Settings<D>,
  values: Values<D>,
  chosen: ReadonlySet<string>,
  command: string,
): string {
  const blocks = [
    `# ${command}\n#\n# Every setting with its meaning. A line that begins with "# name =" has no effect: take the # away to set it.`,
  ];
  for (const [section, keys] of bySection(settings)) {
    const lines = keys.flatMap(([key, setting]) => {
      if (setting.isFlagOnly || !settings.applies(key, values)) return [];
      const assignment = stringify({ [lastPart(key)]: settingValue(values, key) }).trim();
      return [
        ...wrap(`${sentence(describe(setting))} Default: ${defaultText(setting) || "empty"}.`, 110).map(
          (line) => `# ${line}`,
        ),
        chosen.has(key) ? assignment : `# ${assignment}`,
        "",
      ];
    });
    if (lines.length > 0) blocks.push([...(section === "" ? [] : [`[${section}]`]), ...lines].join("\n").trimEnd());
  }
  return `${blocks.join("\n\n")}\n`;
}

/** Every flag with its meaning, for --help; lines up to `width` columns. */
export function flagsHelp(settings: Settings, width = 100): string {
  const lines: string[] = [];
  for (const [section, keys] of bySection(settings)) {
    if (lines.length > 0) lines.push("");
    lines.push(section === "" ? "General" : `[${section}]`);
    for (const [key, setting] of keys) {
      lines.push(setting.form === "boolean" ? `  --${key} | --no-${key}` : `  --${key} ${setting.form.toUpperCase()}`);
      const text = `${sentence(describe(setting))} Default: ${defaultText(setting) || "empty"}.`;
      lines.push(...wrap(text, width - 6).map((line) => `      ${line}`));
    }
  }
  return lines.join("\n");
}

/** All settings as a Markdown table. */
export function markdownTable(settings: Settings): string {
  const rows = [...settings.byKey].map(([key, setting]) => {
    const change = setting.isFree ? "free" : setting.canExtend ? "extends" : "alters";
    const shown = defaultText(setting);
    return [`\`${key}\``, setting.expected, shown === "" ? "" : `\`${shown}\``, setting.unit, change, setting.meaning];
  });
  const heading = ["Setting", "Expected", "Default", "Unit", "Changing it", "Meaning"];
  return [heading, heading.map(() => "---"), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`)
    .join("");
}

/** "points along each axis. An integer from 3 to 201 (points)." */
function describe(setting: Setting<unknown>): string {
  const meaning = setting.meaning.replace(/[.\s]*$/, ".");
  return `${meaning} ${sentence(setting.expected)}${setting.unit ? ` (${setting.unit})` : ""}.`;
}

function sentence(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

function defaultText(setting: Setting<unknown>): string {
  const { default: value } = setting;
  return Array.isArray(value) ? value.join(",") : String(value);
}

/** The settings of each section together; those without a section first, as TOML requires. */
function bySection(settings: Settings): Map<string, [string, Setting<unknown>][]> {
  const sections = new Map<string, [string, Setting<unknown>][]>([["", []]]);
  for (const [key, setting] of settings.byKey) {
    const section = key.slice(0, Math.max(0, key.lastIndexOf(".")));
    const keys = sections.get(section) ?? [];
    keys.push([key, setting]);
    sections.set(section, keys);
  }
  if (sections.get("")?.length === 0) sections.delete("");
  return sections;
}

function lastPart(key: string): string {
  return key.slice(key.lastIndexOf(".") + 1);
}

export function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1];
    if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines;
}
