// The inputs of generate and score: texts, conversations and token ids, from the command line or from JSON files. They
// are checked before a model is loaded or anything is computed.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { asError, FileError, linesOf, readText, SettingsError, text } from "../../engine/host/index.ts";
import { type Chat, type ChatMessage, loadChat } from "../chat.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizer.ts";

/** One text to continue or to score, as the user gave it. */
export type Input = (
  | { readonly ids: readonly number[] }
  | { readonly text: string }
  | { readonly messages: readonly ChatMessage[] }
) & {
  /** Where the input comes from, for messages: "--prompt", "ids.json: list 3". */
  readonly where: string;
};

const ids = z.array(z.number().int().nonnegative());
const tokenRows = z.array(ids);
const messages = z.array(z.object({ role: z.enum(["system", "user", "assistant"]), content: z.string() })).min(1);
const jsonLine = z.union([
  ids,
  z.strictObject({ tokens: ids }),
  z.strictObject({ text: z.string() }),
  z.strictObject({ messages }),
]);

/** The settings for input files; each command adds its own setting for a text. */
export const inputFileSettings = {
  chat: text({ default: "", meaning: 'a conversation: a JSON file [{"role": "user", "content": "…"}]' }),
  tokens: text({ default: "", meaning: "token ids: a JSON file [[ids…],…]" }),
  jsonl: text({
    default: "",
    meaning: 'many inputs: on each line [ids…] or one of {"tokens": […]}, {"text": "…"}, {"messages": […]}',
  }),
} as const;

/**
 * The problems with the choice of inputs, in the form that a settings check returns.
 * @param given    the input flags of the command and their values, "" if not given
 * @param purpose  the purpose of the input: "what to score"
 */
export function inputProblems(given: Readonly<Record<string, string>>, purpose: string): string[] {
  const used = Object.keys(given).filter((key) => given[key] !== "");
  if (used.length === 1) return [];
  const placeholders: Record<string, string> = { prompt: "TEXT", text: "TEXT" };
  const flags = Object.keys(given).map((key) => `--${key} ${placeholders[key] ?? "FILE"}`);
  const got = used.length === 0 ? "none" : used.map((key) => `--${key}`).join(" and ");
  return [`expected one of ${flags.slice(0, -1).join(", ")} and ${flags.at(-1)}, got ${got}: ${purpose}`];
}

/**
 * Reads the inputs that the command line names.
 * @param own   the text on the command line, used if no file is given
 * @param flag  the setting of that text, for messages
 * @throws FileError when a file is not of the expected form
 */
export function readInputs(given: { chat: string; tokens: string; jsonl: string }, own: string, flag: string): Input[] {
  if (given.tokens !== "") {
    const rows = read(given.tokens, tokenRows, "a list of lists of token ids, [[1, 2, 3], [4, 5]]");
    if (rows.length === 0) throw new FileError(`${given.tokens}: expected at least one list of token ids, got none.`);
    return rows.map((row, i) => ({ ids: row, where: `${given.tokens}: list ${i}` }));
  }
  if (given.jsonl !== "") return readJsonLines(given.jsonl);
  if (given.chat !== "")
    return [
      {
        messages: read(given.chat, messages, 'a list of messages, [{"role": "user", "content": "…"}]'),
        where: given.chat,
      },
    ];
  return [{ text: own, where: flag }];
}

function readJsonLines(path: string): Input[] {
  const expected =
    'a list of token ids [1, 2, 3], or an object with one of "tokens" (a list of ids), "text" and "messages" (a list of ' +
    '{"role": "system", "user" or "assistant", "content"})';
  const inputs: Input[] = [];
  linesOf(readText(path)).forEach((line, i) => {
    if (line.trim() === "") return;
    const where = `${path}: line ${i + 1}`;
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (thrown) {
      throw new FileError(`${where}: expected ${expected}, as JSON: ${asError(thrown).message}`, { cause: thrown });
    }
    const { data } = jsonLine.safeParse(json);
    if (data === undefined) throw new FileError(`${where}: expected ${expected}, got ${line.slice(0, 60)}.`);
    inputs.push(
      Array.isArray(data) ? { ids: data, where } : "tokens" in data ? { ids: data.tokens, where } : { ...data, where },
    );
  });
  if (inputs.length === 0) throw new FileError(`${path}: expected at least one line of JSON, got none.`);
  return inputs;
}

/** Inputs as token ids, with the tokenizer and chat template that made them. */
export interface ReadInputs {
  readonly ids: readonly (readonly number[])[];
  /** Null if the model has no tokenizer and no input needs one. */
  readonly tokenizer: Tokenizer | null;
  /** Null if no input is a conversation. */
  readonly chat: Chat | null;
}

/**
 * Turns inputs into token ids, at least one each.
 * @param vocabulary  the model's vocab_size
 * @param opensAnswer whether a conversation ends with the opening of the assistant's next turn
 * @throws CheckpointError when an input needs a tokenizer or chat template that the model lacks; FileError or
 *   SettingsError when an input has no tokens, or a token that the model does not have
 */
export async function idsOfInputs(
  inputs: readonly Input[],
  folder: string,
  { vocabulary, opensAnswer }: { vocabulary: number; opensAnswer: boolean },
): Promise<ReadInputs> {
  const needsTokenizer = inputs.some((input) => !("ids" in input));
  const tokenizer = needsTokenizer || existsSync(join(folder, "tokenizer.json")) ? await loadTokenizer(folder) : null;
  const chat =
    tokenizer !== null && inputs.some((input) => "messages" in input) ? await loadChat(folder, tokenizer) : null;
  const idsOf = (input: Input): readonly number[] => {
    if ("ids" in input) return input.ids;
    if ("text" in input) return tokenizer?.encodePrompt(input.text) ?? [];
    // A chat template writes start tokens itself.
    return tokenizer?.encode(chat?.render(input.messages, { addGenerationPrompt: opensAnswer }) ?? "") ?? [];
  };
  const all = inputs.map((input) => {
    const own = idsOf(input);
    expectKnownIds(input, own, vocabulary);
    return own;
  });
  return { ids: all, tokenizer, chat };
}

function expectKnownIds(input: Input, own: readonly number[], vocabulary: number): void {
  const { where } = input;
  if (own.length === 0)
    throw "ids" in input
      ? new FileError(`${where}: expected at least one token id, got none.`)
      : new SettingsError(`${where}: expected a text with at least one token, got a text without tokens.`);
  const at = own.findIndex((id) => id >= vocabulary);
  if (at < 0) return;
  throw "ids" in input
    ? new FileError(
        `${where}, position ${at}: expected an id below ${vocabulary}, the model's vocab_size, got ${own[at]}. ` +
          "Was it made with this model's tokenizer?",
      )
    : new SettingsError(
        `model: its tokenizer gives id ${own[at]}, its config.json has vocab_size ${vocabulary}. Are both from one model?`,
      );
}

function read<T>(path: string, schema: z.ZodType<T>, expected: string): T {
  let json: unknown;
  try {
    json = JSON.parse(readText(path));
  } catch (thrown) {
    throw new FileError(`${path}: expected ${expected}, as JSON: ${asError(thrown).message}`, { cause: thrown });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path: at, message } = parsed.error.issues[0];
  const place = at.length === 0 ? "" : ` at ${at.join(".")}`;
  throw new FileError(`${path}: expected ${expected}; ${message[0].toLowerCase()}${message.slice(1)}${place}.`);
}
