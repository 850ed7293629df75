// `--from-trl training_args.json`: the settings of a TRL run, from its GRPOConfig as TRL saves it (to_json_string). What was
// taken, what differs in meaning and what has no counterpart is said line by line; a field that would silently change the
// training is refused. The values stand between the settings files and the flags, so a flag changes one of them.
import { basename } from "node:path";
import { FileError, readText, type Source, text } from "../engine/host/index.ts";
import { answerToOtherNames } from "./other-names.ts";
import { type Fields, fieldRules, readBeside, shown, unusable } from "./trl-fields.ts";

export const fromTrlSetting = {
  "from-trl": text({
    default: "",
    changes: "free",
    isFlagOnly: true,
    meaning:
      "a GRPOConfig of TRL (training_args.json, written by its to_json_string): its values apply before the other flags; model and task are given beside it",
  }),
} as const;

/** The settings that a GRPOConfig stands for, as a source, and what must be said about it. */
export interface FromTrl extends Source {
  readonly notes: string[];
}

/**
 * @param others  the other sources: a setting that they give decides in place of a field that cannot be translated
 * @throws FileError when the file is no GRPOConfig
 */
export function readTrlConfig(path: string, others: readonly Source[]): FromTrl {
  const fields = fieldsOf(path);
  const name = basename(path);
  const given = new Set(others.flatMap((source) => source.given.map(({ key }) => key)));
  const source: FromTrl = { given: [], problems: [], notes: [] };
  const taken: string[] = [];
  const differs: string[] = [];
  // Rules read the fields of others. One that cannot be used is told once, and stands for its default in the rest.
  const whole: Record<string, unknown> = {
    ...Object.fromEntries(Object.entries(fieldRules).map(([field, rule]) => [field, rule.absent])),
    ...fields,
  };
  for (const [field, rule] of Object.entries(fieldRules)) {
    const why = unusable(field, rule, whole[field]);
    if (why !== null && !given.has(rule.key ?? ""))
      source.problems.push(
        `${name}, ${field}: ${why}. Correct it in the file${rule.key === undefined ? "" : `, or give --${rule.key}`}`,
      );
    if (why !== null) whole[field] = rule.absent;
    else if (whole[field] === null && typeof rule.absent === "boolean") whole[field] = false;
  }
  for (const [field, rule] of Object.entries(fieldRules)) {
    const value = whole[field];
    const { set = {}, from = field, differs: difference, refused } = rule.translate(value, whole);
    const where = `${name}, ${from}${from in fields ? "" : " (not in the file: TRL's default)"}`;
    for (const [key, translated] of Object.entries(set)) {
      source.given.push({ key, value: translated, where });
      taken.push(
        `${from} ${shown(whole[from])}${from in fields ? "" : " (TRL's default)"} → ${key} = ${shown(translated)}`,
      );
    }
    if (difference !== undefined) differs.push(`${field} ${shown(value)}: ${difference}`);
    if (refused !== undefined && !given.has(refused.unless ?? "")) source.problems.push(`${where}: ${refused.why}`);
  }
  for (const [key, what] of [
    ["model.path", "--model.path, a folder or ORG/NAME"],
    ["environment.name", "--environment.name"],
  ])
    if (!given.has(key)) source.problems.push(`${key}: a GRPOConfig does not name it: give ${what}`);
  const without = withoutCounterpart(fields, source.problems, name);
  source.notes.push(
    `${name}: ${Object.keys(fields).length} fields of a GRPOConfig`,
    "Taken:",
    ...taken.map((line) => `  ${line}`),
    "Differs in meaning:",
    ...differs.map((line) => `  ${line}`),
    "Has no counterpart, and no effect on what is learnt here:",
    ...without.map((line) => `  ${line}`),
    "A flag or a later line of your own changes any of these settings. The run folder's config.toml has all of them; " +
      "--write-settings FILE writes them as a commented file instead of training.",
  );
  return source;
}

function fieldsOf(path: string): Fields {
  let content: unknown;
  try {
    content = parsePythonJson(readText(path));
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
    throw new FileError(`${path}: expected a GRPOConfig as JSON, got no JSON: ${thrown.message}`);
  }
  if (typeof content !== "object" || content === null || !("num_generations" in content))
    throw new FileError(
      `${path}: expected a GRPOConfig as JSON, it has no num_generations. In Python: ` +
        'open("training_args.json", "w").write(trainer.args.to_json_string())',
    );
  return { ...content };
}

/** Python's json writes NaN and Infinity, which JSON does not have. */
function parsePythonJson(text: string): unknown {
  const mark = "a number of Python: ";
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|NaN|-?Infinity/g, (found) =>
    found.startsWith('"') ? found : JSON.stringify(mark + found),
  );
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === "string" && value.startsWith(mark) ? Number(value.slice(mark.length)) : value,
  );
}

/** The fields that are not translated, by the reason; a field that TRL 1.16 does not have is a problem unless it is off. */
function withoutCounterpart(fields: Fields, problems: string[], file: string): string[] {
  const byReason = new Map<string, string[]>();
  for (const [field, value] of Object.entries(fields)) {
    if (Object.hasOwn(fieldRules, field) || readBeside.has(field)) continue;
    const answer = answerToOtherNames(field);
    if (answer === null) {
      if (!field.startsWith("_") && value !== null && value !== false)
        problems.push(
          `${file}, ${field}: ${shown(value)} is no field of trl 1.16, so its effect is not known. Remove it to train without it`,
        );
      continue;
    }
    const reason = answer.replace(/^there is none(, because |: )/, "").replace(/^here it is /, "here: ");
    byReason.set(reason, [...(byReason.get(reason) ?? []), field]);
  }
  return [...byReason].map(([reason, names]) => `${names.join(", ")}: ${reason}`);
}
