// Conversations as token ids. A chat template turns messages into one text. After a turn was sampled, the text is not
// tokenised again: the sampled ids are kept, because the gradient belongs to the tokens that were drawn, and the same
// text can have other ids. The tokens that the template puts between two answers, the *glue*, are appended to the
// sampled ids.
//
// The glue is the difference between the conversation rendered with and without the next turn. So for several turns the
// template must only append; a template that rewrites earlier turns (for example, drops earlier thoughts) is refused. A
// conversation of one turn needs only the end token, so every template works.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { type ChatTemplate, compileTemplate } from "./chat-template.ts";
import { readModelJson } from "./checkpoint-files.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One message of a conversation: who speaks, and what. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface GlueOptions {
  /**
   * `standard` (default): the glue of the whole conversation's rendering. `upstream`: the end token, then the next
   * messages rendered as a separate conversation. Then a template with a default system message inserts a second one,
   * and the newline after the end token is missing.
   */
  turn2Template?: "standard" | "upstream";
  /**
   * What follows an answer that was cut off before its end token. `close` (default): the glue begins with the end
   * token. The token then belongs to the template and not to the assistant: it is masked and has no gradient. `open`:
   * no end token; the next turn follows the cut answer directly.
   */
  unfinished?: "close" | "open";
}

// Placeholder for an answer while the glue is computed: a text that no template trims or takes for markup.
const placeholder = "foothold";
/** Glues that are kept, the latest ones: one takes the template two renderings of the conversation. */
const mostClosings = 1024;

/** The chat template of a model folder, with its tokenizer. */
export class Chat {
  readonly tokenizer: Tokenizer;
  readonly #template: ChatTemplate;
  readonly #specialTokens: Readonly<Record<string, string>>;
  readonly #where: string;
  /** By the messages before the answer and after it. */
  readonly #closings = new Map<string, readonly number[]>();
  #endTokenId: number | null = null;

  constructor(tokenizer: Tokenizer, template: ChatTemplate, specialTokens: Record<string, string>, where: string) {
    this.tokenizer = tokenizer;
    this.#template = template;
    this.#specialTokens = specialTokens;
    this.#where = where;
  }

  /**
   * The conversation as the model's text.
   * @param addGenerationPrompt whether the text ends with the opening of an assistant's turn
   * @throws CheckpointError when the template refuses the messages
   */
  render(messages: readonly ChatMessage[], { addGenerationPrompt }: { addGenerationPrompt: boolean }): string {
    const variables = { messages, add_generation_prompt: addGenerationPrompt, tools: null, documents: null };
    try {
      return this.#template.render({ ...this.#specialTokens, ...variables });
    } catch (error) {
      throw new CheckpointError(
        `${this.#where}: the chat template refuses roles ${messages.map(({ role }) => role).join(", ")}: ` +
          `${asError(error).message}`,
        { cause: error },
      );
    }
  }

  /** Ids of a conversation that waits for the assistant's answer. */
  promptIds(messages: readonly ChatMessage[]): number[] {
    return this.tokenizer.encode(this.render(messages, { addGenerationPrompt: true }));
  }

  /**
   * The token with which the template ends an assistant's turn (`<|im_end|>`).
   * @throws CheckpointError when the template does not end the turn with a special token
   */
  get endTokenId(): number {
    this.#endTokenId ??= this.#findEndToken();
    return this.#endTokenId;
  }

  /**
   * Checks the template against the planned conversations, before anything is loaded or written.
   * @param turns number of answers in the longest conversation
   * @throws CheckpointError when an answer has no end token, or the template cannot append a further turn to it
   */
  expectTurns(turns: number, options: GlueOptions = {}): void {
    const ask: ChatMessage = { role: "user", content: placeholder };
    if (turns > 1) this.glue([ask], [this.endTokenId], [ask], options);
    else this.#findEndToken();
  }

  /**
   * The ids to append after an answer so that the sequence ends where the assistant's next turn begins:
   * prompt ids + sampled ids + glue = the template's rendering of the whole conversation (except that the answer may be
   * split into other tokens). All glue is masked, because the assistant did not say it.
   * @param earlier all messages before the answer
   * @param sampled the answer's ids as sampled, with the end token unless the answer was cut off
   * @param next    the messages after the answer, usually one user message
   */
  glue(
    earlier: readonly ChatMessage[],
    sampled: readonly number[],
    next: readonly ChatMessage[],
    { turn2Template = "standard", unfinished = "close" }: GlueOptions = {},
  ): number[] {
    const ids =
      turn2Template === "standard" ? this.#closing(earlier, next) : [this.endTokenId, ...this.promptIds(next)];
    return ids.slice(sampled.at(-1) === ids[0] || unfinished === "open" ? 1 : 0);
  }

  /**
   * A finished conversation as a training example, with the ids that sampling would give: prompt, answer with end
   * token, glue.
   * @returns ids [T] and mask [T], 1 on the tokens of the assistant's turns, their end tokens included
   */
  dialogue(messages: readonly ChatMessage[], options: GlueOptions = {}): { ids: number[]; mask: number[] } {
    const end = this.endTokenId;
    const ids: number[] = [];
    const mask: number[] = [];
    const append = (more: readonly number[], bit: 0 | 1) => {
      for (const id of more) {
        ids.push(id);
        mask.push(bit);
      }
    };
    let since = 0; // the first message that is not yet among the ids
    messages.forEach(({ role, content }, i) => {
      if (role !== "assistant") return;
      const between = messages.slice(since, i);
      append(
        since === 0 ? this.promptIds(between) : this.glue(messages.slice(0, since - 1), [end], between, options),
        0,
      );
      append([...this.tokenizer.encode(content), end], 1);
      since = i + 1;
    });
    return { ids, mask };
  }

  // Rendered without the opening of a next answer, where some templates open a thought that a finished answer does not
  // have.
  #findEndToken(): number {
    const answer: ChatMessage = { role: "assistant", content: placeholder };
    const whole = this.render([{ role: "user", content: "?" }, answer], { addGenerationPrompt: false });
    const at = whole.lastIndexOf(placeholder);
    if (at < 0)
      throw new CheckpointError(
        `${this.#where}: expected the chat template to write an assistant's message unchanged; the rendered text lacks it.`,
      );
    return this.#expectEndToken(whole.slice(at + placeholder.length))[0];
  }

  // Ids from the end token of an answer to the opening of the next answer. They do not depend on the answer, so all rollouts
  // of a prompt have the same until their conversations part.
  #closing(earlier: readonly ChatMessage[], next: readonly ChatMessage[]): readonly number[] {
    const key = JSON.stringify([earlier, next]);
    const found = this.#closings.get(key);
    if (found !== undefined) return found;
    const made = this.#makeClosing(earlier, next);
    for (const oldest of this.#closings.keys()) {
      if (this.#closings.size < mostClosings) break;
      this.#closings.delete(oldest);
    }
    this.#closings.set(key, made);
    return made;
  }

  #makeClosing(earlier: readonly ChatMessage[], next: readonly ChatMessage[]): number[] {
    const opened = this.render(earlier, { addGenerationPrompt: true });
    const before = opened + placeholder;
    const answer: ChatMessage = { role: "assistant", content: placeholder };
    const whole = this.render([...earlier, answer, ...next], { addGenerationPrompt: true });
    if (!whole.startsWith(before))
      throw new CheckpointError(
        `${this.#where}: expected the chat template to append a turn to an answer; ${difference(opened, whole)}, so the ` +
          "sampled tokens cannot be kept over several turns. Use one-turn episodes or a template that only appends.",
      );
    return this.#expectEndToken(whole.slice(before.length));
  }

  #expectEndToken(text: string): number[] {
    const ids = this.tokenizer.encode(text);
    if (this.tokenizer.specialIds.has(ids[0])) return ids;
    throw new CheckpointError(
      `${this.#where}: expected the chat template to end an answer with a special token, ` +
        `got ${text === "" ? "nothing" : JSON.stringify(text.slice(0, 20))}.`,
    );
  }
}

/** Describes how a conversation with one more turn differs from the prompt of its first answer. */
function difference(opened: string, whole: string): string {
  let same = 0;
  while (same < opened.length && opened[same] === whole[same]) same++;
  const [prompt, later] = [opened, whole].map((text) => JSON.stringify(text.slice(same, same + 30)));
  return same === opened.length
    ? "it changes the answer itself"
    : `the prompt continues with ${prompt} where the longer conversation has ${later}`;
}

const token = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]).nullish();
const named = z.array(z.object({ name: z.string(), template: z.string() }));
const configSchema = z.object({
  chat_template: z.union([z.string(), named]).nullish(),
  bos_token: token,
  eos_token: token,
  pad_token: token,
  unk_token: token,
});

/**
 * Reads the chat template of a model folder: chat_template.jinja, else `chat_template` in tokenizer_config.json (if
 * that holds several named templates, `default`).
 * @throws CheckpointError when there is no template, or it cannot be compiled
 */
export async function loadChat(folder: string, tokenizer: Tokenizer): Promise<Chat> {
  const configPath = join(folder, "tokenizer_config.json");
  const templatePath = join(folder, "chat_template.jinja");
  const parsed = configSchema.safeParse(existsSync(configPath) ? readModelJson(configPath) : {});
  if (!parsed.success)
    throw new CheckpointError(`${configPath}: ${z.prettifyError(parsed.error)}. Is it a tokenizer_config.json?`);
  const { chat_template, ...tokens } = parsed.data;
  const inConfig = Array.isArray(chat_template)
    ? chat_template.find(({ name }) => name === "default")?.template
    : chat_template;
  const [where, source] = existsSync(templatePath)
    ? [templatePath, await readFile(templatePath, "utf8")]
    : [configPath, inConfig ?? null];
  if (source === null)
    throw new CheckpointError(
      `${configPath}: expected a chat_template, there is none. Is this a base model? Use its Instruct version.`,
    );
  const specialTokens = Object.entries(tokens).flatMap(([name, text]) => (text == null ? [] : [[name, text]]));
  try {
    return new Chat(tokenizer, compileTemplate(source), Object.fromEntries(specialTokens), where);
  } catch (error) {
    throw new CheckpointError(`${where}: the chat template cannot be compiled: ${asError(error).message}`, {
      cause: error,
    });
  }
}
