// The tables of docs/from-trl.md: every field of TRL's GRPOConfig (known/trl-config.json, by introspection) with its
// counterpart here, from the table of rl/other-names.ts. `node test/rl/from-trl.ts` prints them.
import { studySettings } from "../../landscape/settings.ts";
import { answerToOtherNames } from "../../rl/other-names.ts";
import { readKnown } from "./known/read.ts";

export interface TrlConfig {
  versions: { trl: string; transformers: string };
  /** `own`: of GRPOConfig itself, not of transformers' TrainingArguments. */
  fields: { name: string; default: string; own: boolean }[];
}

/** Dotted keys of settings in a text, and those without a section. */
export function settingsIn(text: string): string[] {
  return (text.match(/[A-Za-z][\w-]*(?:\.[A-Za-z][\w-]*)*/g) ?? []).filter((key) => studySettings.byKey.has(key));
}

/** The setting that an answer is about, if it is one: what it begins with. */
export function counterpart(answer: string): string | null {
  const here = answer.match(/^here it is ([\w.]+)/);
  return here !== null && studySettings.byKey.has(here[1]) ? here[1] : null;
}

export function fromTrlTables(): string {
  const { fields } = readKnown<TrlConfig>("trl-config.json");
  const table = (own: boolean): string => {
    const rows = fields
      .filter((field) => field.own === own)
      .map(({ name, default: value }) => {
        const answer = answerToOtherNames(name) ?? "";
        const setting = counterpart(answer);
        const text = answer
          .replace(/^here it is /, "")
          .replace(/^there is none, because /, "none: ")
          .replace(/^there is none: /, "none: ");
        const marked = text
          .replaceAll(/(?<![/\w])(?:model|environment|train|evaluate|landscape|batch)\.[A-Za-z0-9]+\b/g, "`$&`")
          .replace(/^out\b/, "`out`")
          .replaceAll("|", "\\|");
        const ours = setting === null ? "" : `\`${JSON.stringify(studySettings.byKey.get(setting)?.default)}\``;
        return `| \`${name}\` | ${value === "" ? "" : `\`${value}\``} | ${marked} | ${ours} |`;
      });
    return `| TRL | default there | here | default here |\n|---|---|---|---|\n${rows.join("\n")}\n`;
  };
  return `## Fields of GRPOConfig\n\n${table(true)}\n## Fields of TrainingArguments\n\n${table(false)}`;
}

if (process.argv[1] === new URL(import.meta.url).pathname) process.stdout.write(fromTrlTables());
