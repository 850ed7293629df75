// Conversations as token ids. A chat template turns messages into one text; but after a turn was sampled, the text is not
// tokenised again: the sampled ids stay as they are, since the gradient belongs to the tokens that were drawn, and the same
// text may have other ids. What the template puts between an answer and the next one, the *glue*, is appended to them.
//
// The glue is found by rendering the conversation with and without the next turn, so any template works that leaves
// earlier turns as they were; one that rewrites them (drops earlier thoughts, say) is refused.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { readModelJson } from "./checkpoint-files.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface GlueOptions {
  /**
   * `standard` (default): the template of the whole conversation. `upstream`: the end token, then the next messages
   * rendered as a conversation of their own, so that templates with a default system message put in a second one, and the
   * newline after the end token is missing.
   */
  turn2Template?: "standard" | "upstream";
  /**
   * For an answer that was cut off before its end token. `close` (default): the glue begins with the end token, which is
   * then the template's and not the assistant's: masked, without gradient. `open`: no end token at all, the next turn
   * follows the broken answer.
   */
  unfinished?: "close" | "open";
}

// Stands for an answer while the glue is looked for: nothing that a template would trim or take for markup.
const placeholder = "foothold";

/** A compiled chat template. */
export interface ChatTemplate {
  render(variables: Record<string, unknown>): string;
}

/** The chat template of a model folder, with its tokenizer. */
export class Chat {
  readonly tokenizer: Tokenizer;
  readonly #template: ChatTemplate;
  readonly #specialTokens: Readonly<Record<string, string>>;
  readonly #where: string;

  constructor(tokenizer: Tokenizer, template: ChatTemplate, specialTokens: Record<string, string>, where: string) {
    this.tokenizer = tokenizer;
    this.#template = template;
    this.#specialTokens = specialTokens;
    this.#where = where;
  }

  /**
   * The conversation as the model's text.
   * @param addGenerationPrompt end with the opening of an assistant's turn
   * @throws CheckpointError when the template refuses the messages
   */
  render(messages: readonly Message[], { addGenerationPrompt }: { addGenerationPrompt: boolean }): string {
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
  promptIds(messages: readonly Message[]): number[] {
    return this.tokenizer.encode(this.render(messages, { addGenerationPrompt: true }));
  }

  /** The token with which the template ends an assistant's turn (`<|im_end|>`). */
  get endTokenId(): number {
    return this.#closing([{ role: "user", content: placeholder }], [])[0];
  }

  /**
   * The ids to append after an answer so that the sequence stands before the assistant's next turn:
   * prompt ids + sampled ids + glue = what the template makes of the whole conversation (up to how the answer was split
   * into tokens). All of them are masked: the assistant said none of them.
   * @param earlier all messages before the answer
   * @param sampled the answer's ids, as sampled; with its end token, unless it was cut off
   * @param next    what follows the answer, usually one user message
   */
  glue(
    earlier: readonly Message[],
    sampled: readonly number[],
    next: readonly Message[],
    { turn2Template = "standard", unfinished = "close" }: GlueOptions = {},
  ): number[] {
    const standard = this.#closing(earlier, next);
    const ids = turn2Template === "standard" ? standard : [standard[0], ...this.promptIds(next)];
    return sampled.at(-1) === ids[0] || unfinished === "open" ? ids.slice(1) : ids;
  }

  /**
   * A finished conversation as a training example, put together as sampling would: prompt, answer with its end token, glue.
   * @returns ids [T] and mask [T], 1 on the tokens of the assistant's turns, their end tokens included
   */
  dialogue(messages: readonly Message[], options: GlueOptions = {}): { ids: number[]; mask: number[] } {
    const end = this.endTokenId;
    const ids: number[] = [];
    const mask: number[] = [];
    const append = (more: readonly number[], bit: 0 | 1) => {
      ids.push(...more);
      for (let i = 0; i < more.length; i++) mask.push(bit);
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

  // Ids from the end token of an answer on, to the opening of the next one.
  #closing(earlier: readonly Message[], next: readonly Message[]): number[] {
    const before = this.render(earlier, { addGenerationPrompt: true }) + placeholder;
    const answer: Message = { role: "assistant", content: placeholder };
    const whole = this.render([...earlier, answer, ...next], { addGenerationPrompt: true });
    if (!whole.startsWith(before))
      throw new CheckpointError(
        `${this.#where}: the chat template changes earlier turns when one is added, so sampled tokens cannot be kept ` +
          "over several turns. Use one-turn episodes, or a template that only appends.",
      );
    const ids = this.tokenizer.encode(whole.slice(before.length));
    if (!this.tokenizer.specialIds.has(ids[0]))
      throw new CheckpointError(
        `${this.#where}: expected the chat template to end an answer with a special token, ` +
          `got ${JSON.stringify(whole.slice(before.length, before.length + 20))}.`,
      );
    return ids;
  }
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
 * Reads the chat template of a model folder: chat_template.jinja, else `chat_template` in tokenizer_config.json (of several
 * named ones `default`).
 * @throws CheckpointError when there is none, or it cannot be compiled
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
      `${configPath}: expected a chat_template, there is none. Is this a base model? Take its Instruct version.`,
    );
  const specialTokens = Object.entries(tokens).flatMap(([name, text]) => (text == null ? [] : [[name, text]]));
  try {
    return new Chat(tokenizer, new Template(source), Object.fromEntries(specialTokens), where);
  } catch (error) {
    throw new CheckpointError(`${where}: the chat template cannot be compiled: ${asError(error).message}`, {
      cause: error,
    });
  }
}
