// Rows of a data set as questions, by the names of their columns.
import { FileError } from "../../engine/host/index.ts";
import { type AnswerComparison, answerIn, answerProblem } from "./compare-answers.ts";
import type { OpenedData } from "./data.ts";
import type { Question } from "./question-answer.ts";
import { nameOfType } from "./rows.ts";

export interface QuestionColumns {
  readonly promptColumn: string;
  readonly answerColumn: string;
  readonly instruction: string;
  readonly systemPrompt: string;
  readonly extractAnswer: string;
}

/**
 * @param comparison  how answers are compared with the right ones; null if a program scores
 * @throws FileError naming the row and column that is missing, not of the expected type, or not to be compared
 */
export function questionsOf(
  { rows }: Pick<OpenedData, "rows">,
  columns: QuestionColumns,
  comparison: Omit<AnswerComparison, "extract"> | null,
): Question[] {
  const { promptColumn, answerColumn, instruction, systemPrompt, extractAnswer } = columns;
  return rows.map(({ where, value }) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new FileError(`${where}: expected an object with the columns as keys, got ${nameOfType(value)}.`);
    const row = new Map<string, unknown>(Object.entries(value));
    const column = (name: string): unknown => {
      if (row.has(name)) return row.get(name);
      const field = fieldOf(value, name.split("."));
      if (field !== undefined) return field;
      throw new FileError(
        `${where}: expected a column ${JSON.stringify(name)}, got ${[...row.keys()].join(", ") || "none"}. Name it ` +
          `by environment.dataset.${name === promptColumn ? "promptColumn" : "answerColumn"}.`,
      );
    };
    const asked = promptOf(column(promptColumn), `${where}: ${promptColumn}`);
    const system = systemPrompt || asked.system;
    const written = answerColumn === "" ? null : textOf(column(answerColumn), `${where}: ${answerColumn}`);
    const answer = written === null ? null : answerIn(written, extractAnswer);
    if (written !== null && answer === null)
      throw new FileError(
        `${where}: ${answerColumn}: expected an answer that environment.dataset.extractAnswer matches, got ` +
          `${JSON.stringify(written.slice(0, 60))}.`,
      );
    const problem = answer === null || comparison === null ? null : answerProblem(comparison, answer);
    if (problem !== null) throw new FileError(`${where}: ${answerColumn}: ${problem}.`);
    return {
      ...(system !== "" && { systemPrompt: system }),
      prompt: instruction === "" ? asked.user : `${asked.user}\n${instruction}`,
      answer,
      ...(written !== null && answer !== null && { worked: { formatted: written, bare: answer } }),
    };
  });
}

/** A field of an object in a row: ["reward_model", "ground_truth"]. */
function fieldOf(value: unknown, [name, ...rest]: readonly string[]): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  const found: unknown = Object.entries(value).find(([key]) => key === name)?.[1];
  return rest.length === 0 ? found : fieldOf(found, rest);
}

function textOf(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "bigint" || typeof value === "boolean") return String(value);
  const refuse = (what: string): Error => new FileError(`${where}: expected a text or a number, got ${what}`);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw refuse(`${value}, which no answer equals. Remove the row.`);
    if (Number.isInteger(value) && !Number.isSafeInteger(value))
      throw refuse(`about ${value}: a number beyond 2^53 is rounded when it is read. Write it as a text, in quotes.`);
    return String(value);
  }
  if (value === null) throw refuse("null. Remove the row, or name another column.");
  const fields = typeof value === "object" && !Array.isArray(value) ? Object.keys(value) : [];
  throw refuse(
    fields.length === 0
      ? `${nameOfType(value)}. Write it as a text.`
      : `an object with ${fields.slice(0, 8).join(", ")}. Name a field of it as COLUMN.FIELD.`,
  );
}

/** The prompt of a row: a text, or the messages of a chat, a system message at most before the user's. */
function promptOf(value: unknown, where: string): { system: string; user: string } {
  if (typeof value === "string") return { system: "", user: value };
  const messages: unknown[] = Array.isArray(value) ? value : [];
  const found = messages.map((message) => {
    const { role, content } =
      typeof message === "object" && message !== null
        ? { role: null, content: null, ...message }
        : { role: null, content: null };
    return typeof content === "string" ? { role: role as unknown, content } : null;
  });
  const [system, user] = found.length === 1 ? [{ role: "system", content: "" }, found[0]] : found;
  if (found.length > 2 || system?.role !== "system" || user?.role !== "user")
    throw new FileError(
      `${where}: expected a text, or a list of a user's message {"role": "user", "content": …} with at most a system ` +
        `message before it, got ${Array.isArray(value) ? JSON.stringify(value).slice(0, 80) : nameOfType(value)}.`,
    );
  return { system: system.content, user: user.content };
}
