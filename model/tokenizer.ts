// Text to token ids and back, by Hugging Face's tokenizer for JavaScript. This file adds what a model needs besides: ids that
// no token has (Qwen2.5 has more rows than tokens), the empty list, and text that is shown while it is generated.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { readJson } from "./checkpoint-files.ts";

export interface DecodeOptions {
  /** Leave out tokens such as `<|im_end|>` (default false). */
  skipSpecialTokens?: boolean;
}

/** The tokenizer of a model folder. */
export class Tokenizer {
  /** Ids of the special tokens; their text in a prompt stands for them. */
  readonly specialIds: ReadonlySet<number>;
  readonly #inner: HuggingFaceTokenizer;

  constructor(inner: HuggingFaceTokenizer) {
    this.#inner = inner;
    const added = [...inner.get_added_tokens_decoder()];
    this.specialIds = new Set(added.filter(([, token]) => token.special).map(([id]) => id));
  }

  /** Token ids of a text, with nothing put in front or behind. A special token in the text becomes its id. */
  encode(text: string): number[] {
    return this.#inner.encode(text, { add_special_tokens: false }).ids;
  }

  /**
   * Text of token ids. Bytes that are no UTF-8 become U+FFFD; ids that no token has stand for nothing, as in Hugging Face's
   * libraries: a model may have more rows than its tokenizer has tokens.
   */
  decode(ids: Iterable<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const shown = [...ids].filter(
      (id) => this.#inner.id_to_token(id) !== undefined && !(skipSpecialTokens && this.specialIds.has(id)),
    );
    // The package cannot decode an empty list, and by default removes spaces before punctuation: no text is changed here.
    return shown.length === 0 ? "" : this.#inner.decode(shown, { clean_up_tokenization_spaces: false });
  }

  /** How many tokens there are; a model may have more rows. */
  get size(): number {
    return this.#inner.get_vocab().size;
  }

  /** The id of a token by its exact text, undefined when there is none. */
  idOf(token: string): number | undefined {
    return this.#inner.token_to_id(token);
  }

  /** Decodes ids as they come. */
  stream(options: DecodeOptions = {}): TextStream {
    return new TextStream(this, options);
  }
}

/** Up to so many waiting ids are decoded again with each new one: no character has more bytes, so none waits longer. */
const shortWait = 8;

/**
 * Text while it is generated: a character is given out when all its bytes are there, so nobody sees half of one. All that
 * was given out, joined, is what `decode` makes of all ids.
 *
 * While the text ends in half a character its ids wait, and are decoded again with the next one. A long wait holds bytes that
 * are no text; then that is done only when the new id ends a character by itself, or when the wait has doubled. So decoding
 * takes time in proportion to the number of ids, whatever they are.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  // Ids since the last complete character, and how much of their text was given out.
  #waiting: number[] = [];
  #given = 0;
  // How many ids wait when they are decoded next, whatever they end in.
  #next = 0;

  constructor(tokenizer: Tokenizer, options: DecodeOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** What can be shown after this id too; "" within a character. */
  push(id: number): string {
    this.#waiting.push(id);
    if (this.#waiting.length > shortWait && this.#waiting.length < this.#next && !this.#endsCharacter(id)) return "";
    this.#next = 2 * this.#waiting.length;
    const text = this.#tokenizer.decode(this.#waiting, this.#options);
    // U+FFFD at the end: bytes that the next token may complete. Elsewhere it is final.
    const complete = text.replace(/\ufffd+$/, "");
    const shown = complete.slice(this.#given);
    this.#given = complete.length;
    if (complete.length === text.length) this.#clear();
    return shown;
  }

  /** What is left at the end of an answer: bytes that nothing completed, as U+FFFD. */
  end(): string {
    const shown = this.#tokenizer.decode(this.#waiting, this.#options).slice(this.#given);
    this.#clear();
    return shown;
  }

  #endsCharacter(id: number): boolean {
    const own = this.#tokenizer.decode([id], this.#options);
    return own !== "" && !own.endsWith("\ufffd");
  }

  #clear(): void {
    this.#waiting = [];
    this.#given = 0;
    this.#next = 0;
  }
}

const object = z.record(z.string(), z.unknown());

/**
 * Reads tokenizer.json, and tokenizer_config.json where there is one.
 * @throws CheckpointError when a file is missing or damaged
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const path = join(folder, "tokenizer.json");
  const configPath = join(folder, "tokenizer_config.json");
  if (!existsSync(path))
    throw new CheckpointError(
      `${path}: not found. Save the tokenizer beside the model (tokenizer.save_pretrained), or copy it from the original.`,
    );
  const definition = await readJson(path);
  const config = existsSync(configPath) ? await readJson(configPath) : {};
  try {
    return new Tokenizer(new HuggingFaceTokenizer(object.parse(definition), object.parse(config)));
  } catch (error) {
    throw new CheckpointError(`${path}: expected a tokenizer of Hugging Face's: ${asError(error).message}`, {
      cause: error,
    });
  }
}
