// Stands in for the chat template and tokenizer of Qwen2.5 where only the lengths of texts matter: a plan that is made
// before the model was downloaded. Its ids mean nothing.
import { Chat, type ChatMessage, type GlueOptions } from "./chat.ts";
import { Tokenizer, type TokenizerParts } from "./tokenizer.ts";

/** The system message that Qwen2.5's template writes when a conversation has none. */
const systemMessage = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

const turn = (role: string, content: string): string => `<|im_start|>${role}\n${content}<|im_end|>\n`;

const template = {
  render({ messages, add_generation_prompt: isOpen }: Record<string, unknown>): string {
    const listed: ChatMessage[] = Array.isArray(messages) ? messages : [];
    const system = listed[0]?.role === "system" ? [] : [turn("system", systemMessage)];
    const turns = listed.map(({ role, content }) => turn(role, content));
    return [...system, ...turns, isOpen ? "<|im_start|>assistant\n" : ""].join("");
  },
};

/**
 * A special token, a word in small letters, a digit, and a run of signs or line ends count as one token each; of a word
 * with a capital, every part that begins with the capital counts one per five letters. So names count as several.
 */
function countTokens(text: string): number {
  let count = 0;
  for (const [piece] of text.matchAll(/<\|im_(?:start|end)\|>| ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s+/g)) {
    const parts = /[A-Z]/.test(piece) && !piece.startsWith("<|") ? piece.trim().split(/(?=[A-Z])/) : [""];
    count += parts.reduce((sum, part) => sum + Math.max(1, Math.ceil(part.length / 5)), 0);
  }
  return count;
}

class StandInChat extends Chat {
  constructor() {
    const parts: TokenizerParts = {
      encode: (text) => ({ ids: new Array<number>(countTokens(text)).fill(1) }),
      decode: () => "",
      id_to_token: () => undefined,
      token_to_id: () => undefined,
      get_vocab: () => ({ size: 2 }),
    };
    super(new Tokenizer(parts, [], null), template, {}, "the stand-in for Qwen2.5's template");
  }

  override get endTokenId(): number {
    return 0;
  }

  override glue(
    _earlier: readonly ChatMessage[],
    sampled: readonly number[],
    next: readonly ChatMessage[],
    options: GlueOptions = {},
  ): number[] {
    const rendered = next.map(({ role, content }) => turn(role, content)).join("");
    const isEnded = sampled.at(-1) === this.endTokenId || options.unfinished === "open";
    return [...(isEnded ? [] : [this.endTokenId]), ...this.tokenizer.encode(`\n${rendered}<|im_start|>assistant\n`)];
  }

  override expectTurns(): void {}
}

/** Lengths as with Qwen2.5's tokenizer and template, within 15% on the built-in task. */
export function standInChat(): Chat {
  return new StandInChat();
}
