// What the commands of this floor read: token ids or a conversation from a JSON file, checked before a model is loaded or
// anything is computed.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { asError, FileError } from "../../engine/host/index.ts";
import type { Message } from "../chat.ts";

const tokenRows = z.array(z.array(z.number().int().nonnegative()));
const messages = z.array(z.object({ role: z.enum(["system", "user", "assistant"]), content: z.string() })).min(1);

/**
 * Reads [[ids…],…].
 * @throws FileError when the file is no such list, a row is empty, or an id is not below `vocabulary`
 */
export function readTokenFile(path: string, vocabulary: number): number[][] {
  const rows = read(path, tokenRows, "a list of lists of token ids, [[1, 2, 3], [4, 5]]");
  if (rows.length === 0) throw new FileError(`${path}: expected at least one list of token ids, got none.`);
  rows.forEach((ids, row) => {
    if (ids.length === 0) throw new FileError(`${path}: list ${row}: expected at least one token id, got none.`);
    const at = ids.findIndex((id) => id >= vocabulary);
    if (at >= 0)
      throw new FileError(
        `${path}: list ${row}, place ${at}: expected an id below ${vocabulary}, the model's vocab_size, got ${ids[at]}. ` +
          "Was it made with this model's tokenizer?",
      );
  });
  return rows;
}

/** Reads [{"role", "content"}, …]. @throws FileError when the file is no such list */
export function readChatFile(path: string): Message[] {
  return read(path, messages, 'a list of messages, [{"role": "user", "content": "…"}]');
}

function read<T>(path: string, schema: z.ZodType<T>, expected: string): T {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (thrown) {
    throw new FileError(`${path}: expected ${expected}, as JSON: ${asError(thrown).message}`, { cause: thrown });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path: at, message } = parsed.error.issues[0];
  const place = at.length === 0 ? "" : ` at ${at.join(".")}`;
  throw new FileError(`${path}: expected ${expected}; ${message[0].toLowerCase()}${message.slice(1)}${place}.`);
}
