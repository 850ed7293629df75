// Text to token ids and back, by Hugging Face's tokenizer for JavaScript. This module adds what a model needs besides:
// tokens that only the files beside tokenizer.json name (added-tokens.ts), corrections of steps that the package
// computes differently from the Rust library (tokenizer-patterns.ts), ids that only the tokenizer or only the model
// knows (Qwen2.5 has more rows than tokens), the empty list, and text shown while it is generated.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { asError, CheckpointError } from "../engine/host/index.ts";
import { type AddedToken, addedTokens } from "./added-tokens.ts";
import { readModelJson } from "./checkpoint-files.ts";
import type { Json } from "./config.ts";
import { normalizerInPatterns, preTokenizerInPatterns } from "./tokenizer-patterns.ts";

export interface DecodeOptions {
  /** Leave out tokens such as `<|im_end|>` (default false). */
  skipSpecialTokens?: boolean;
}

/**
 * The part of Hugging Face's tokenizer that is used here. The type is written out, because the package's types do not
 * compile under TypeScript's Node resolution, which users of this library may have enabled.
 */
export interface TokenizerParts {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
  get_vocab(): { readonly size: number };
}

/** The model that a tokenizer was loaded with. */
interface ModelOfTokenizer {
  readonly folder: string;
  /** Rows of the model's embedding; every id must be below. */
  readonly rows: number;
}

/** The tokenizer of a model folder. */
export class Tokenizer {
  /** Ids of the special tokens. Their text in a prompt is read as the token. */
  readonly specialIds: ReadonlySet<number>;
  readonly #inner: TokenizerParts;
  readonly #model: ModelOfTokenizer | null;

  /** @param model  the model whose rows the ids must fit; null when there is none */
  constructor(inner: TokenizerParts, added: readonly AddedToken[], model: ModelOfTokenizer | null) {
    this.#inner = inner;
    this.#model = model;
    this.specialIds = new Set(added.filter(({ special }) => special).map(({ id }) => id));
  }

  /**
   * Token ids of a text, with nothing added before or after. A special token in the text becomes its id.
   * @throws CheckpointError when the text has a token for which the model has no row
   */
  encode(text: string): number[] {
    return this.#encode(text, false);
  }

  /**
   * Token ids of a text as a whole prompt: with the tokens that the tokenizer adds before or after (`post_processor` in
   * tokenizer.json), a start token for Llama and none for Qwen2.5. A chat template writes such tokens itself.
   * @throws CheckpointError when the text has a token for which the model has no row
   */
  encodePrompt(text: string): number[] {
    return this.#encode(text, true);
  }

  #encode(text: string, add_special_tokens: boolean): number[] {
    const { ids } = this.#inner.encode(text, { add_special_tokens });
    // The package returns `undefined` for an unknown word if a WordLevel vocabulary has no id for its unknown token.
    const unknown = ids.findIndex((id) => !Number.isInteger(id));
    if (unknown >= 0)
      throw new CheckpointError(
        `${this.#model?.folder ?? "tokenizer"}: the tokenizer gives no id for token ${unknown} of ${JSON.stringify(text.slice(0, 80))}. ` +
          "Its vocabulary has no entry for that text.",
      );
    if (this.#model !== null) for (const id of ids) if (id >= this.#model.rows) this.#refuse(id, this.#model);
    return ids;
  }

  #refuse(id: number, { folder, rows }: ModelOfTokenizer): never {
    throw new CheckpointError(
      `${folder}: a text has the token ${JSON.stringify(this.#inner.id_to_token(id))}, whose id is ${id}, and the model has ` +
        `${rows} rows (vocab_size in config.json). Resize the model's embedding to its tokenizer, or leave out that token.`,
    );
  }

  /**
   * Text of token ids. Bytes that are not valid UTF-8 become U+FFFD. Ids without a token are skipped, as in Hugging
   * Face's
   * libraries: a model may have more rows than its tokenizer has tokens.
   */
  decode(ids: Iterable<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const shown = [...ids].filter(
      (id) => this.#inner.id_to_token(id) !== undefined && !(skipSpecialTokens && this.specialIds.has(id)),
    );
    // The package cannot decode an empty list. By default it removes spaces before punctuation, which is turned off
    // here.
    return shown.length === 0 ? "" : this.#inner.decode(shown, { clean_up_tokenization_spaces: false });
  }

  /** Number of tokens; a model may have more rows. */
  get size(): number {
    return this.#inner.get_vocab().size;
  }

  /** The id of a token by its exact text; undefined if there is no such token. */
  idOf(token: string): number | undefined {
    return this.#inner.token_to_id(token);
  }

  /** Decodes ids one at a time, as they are generated. */
  stream(options: DecodeOptions = {}): TextStream {
    return new TextStream(this, options);
  }
}

/**
 * Up to this many waiting ids are decoded again with each new id. No character has more bytes, so this covers every
 * character.
 */
const shortWait = 8;

/**
 * Text while it is generated. A character is returned when all its bytes have arrived, so no partial character is
 * shown. The returned texts, joined, equal `decode` of all ids.
 *
 * While the text ends in a partial character, its ids wait and are decoded again with the next id. A long wait means
 * that the bytes are not text; then the ids are decoded again only when the new id ends a character by itself, or when
 * their number has doubled. So decoding takes time proportional to the number of ids, whatever they are.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  // Ids since the last complete character, and how much of their text was returned.
  #waiting: number[] = [];
  #given = 0;
  // Number of waiting ids at which they are decoded again in any case.
  #next = 0;

  constructor(tokenizer: Tokenizer, options: DecodeOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** The text to show after this id; "" within a character. */
  push(id: number): string {
    this.#waiting.push(id);
    if (this.#waiting.length > shortWait && this.#waiting.length < this.#next && !this.#endsCharacter(id)) return "";
    this.#next = 2 * this.#waiting.length;
    const text = this.#tokenizer.decode(this.#waiting, this.#options);
    // U+FFFD at the end may stand for bytes that the next token completes. Elsewhere it is final.
    const complete = text.replace(/\ufffd+$/, "");
    const shown = complete.slice(this.#given);
    this.#given = complete.length;
    if (complete.length === text.length) this.#clear();
    return shown;
  }

  /** The rest at the end of an answer: incomplete bytes, as U+FFFD. */
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
 * Reads tokenizer.json and, if they exist, tokenizer_config.json, special_tokens_map.json and added_tokens.json. If the
 * folder has a config.json, the tokenizer is checked against it; every command that opens a model uses this function.
 * @throws CheckpointError when a file is missing or damaged, or the tokenizer has more tokens than the model has rows
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const path = join(folder, "tokenizer.json");
  if (!existsSync(path)) throw new CheckpointError(`${path}: not found. ${whereToGetIt(folder)}`);
  const json = (name: string) => {
    const file = join(folder, name);
    return existsSync(file) ? parsedObject(readModelJson(file), file) : null;
  };
  const tokenizer = parsedObject(readModelJson(path), path);
  const config = json("tokenizer_config.json");
  const others = { specialTokensMap: json("special_tokens_map.json"), addedTokens: json("added_tokens.json") };
  const added = addedTokens({ tokenizer, config, ...others }, folder);
  const definition = {
    ...tokenizer,
    // The package searches the text for tokens before or after normalisation; for special tokens always before.
    added_tokens: added.map((token) => ({ ...token, normalized: token.normalized && !token.special })),
    normalizer: normalizerInPatterns(step(tokenizer, "normalizer", path)),
    pre_tokenizer: preTokenizerInPatterns(step(tokenizer, "pre_tokenizer", path), path),
  };
  let inner: HuggingFaceTokenizer;
  try {
    inner = new HuggingFaceTokenizer(definition, config ?? {});
  } catch (error) {
    throw new CheckpointError(`${path}: expected a tokenizer of Hugging Face's: ${asError(error).message}`, {
      cause: error,
    });
  }
  const model = modelOf(folder);
  if (model !== null) expectRows(inner, model);
  return new Tokenizer(inner, added, model);
}

function parsedObject(json: unknown, path: string): Json {
  const parsed = object.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new CheckpointError(`${path}: expected a JSON object.`);
}

function step(tokenizer: Json, key: string, path: string): Json | null {
  return tokenizer[key] == null ? null : parsedObject(tokenizer[key], `${path}: ${key}`);
}

function modelOf(folder: string): ModelOfTokenizer | null {
  const path = join(folder, "config.json");
  if (!existsSync(path)) return null;
  const parsed = z.object({ vocab_size: z.int().positive() }).safeParse(readModelJson(path));
  return parsed.success ? { folder, rows: parsed.data.vocab_size } : null;
}

/**
 * A text may contain any ordinary token, so the model must have a row for each. Added tokens are checked where they
 * occur.
 */
function expectRows(inner: HuggingFaceTokenizer, { folder, rows }: ModelOfTokenizer): void {
  let highest = -1;
  for (const id of inner.get_vocab(false).values()) highest = Math.max(highest, id);
  if (highest >= rows)
    throw new CheckpointError(
      `${folder}: tokenizer.json has the id ${highest}, and config.json gives the model only ${rows} rows (vocab_size). Are both ` +
        "from one model? Take the tokenizer that belongs to the weights.",
    );
}

// A hub model is in the cache, where the user should not add files.
function whereToGetIt(folder: string): string {
  return /[\\/]models--[^\\/]+[\\/]snapshots[\\/][0-9a-f]{40}[\\/]*$/.test(folder)
    ? "The cache of models has no tokenizer for it. If HF_HUB_OFFLINE is set, or the hub could not be reached, unset it " +
        "once and try again: the tokenizer is then fetched. If it is still missing, the model has none on the hub: save the " +
        "model with a tokenizer in another folder (tokenizer.save_pretrained)."
    : "Save the tokenizer beside the model (tokenizer.save_pretrained), or copy it from the original.";
}
