// A few numbers about all dialogues together, which decide the size of the cache for a generation. They are computed in
// one pass that keeps nothing of a dialogue, so millions of them need no memory.

export interface DialogueBounds {
  /** How many dialogues there are. */
  readonly count: number;
  /** The largest `expectedTokens`. */
  readonly expectedTokens: number;
  /** Lengths of the longest different prompts (per policy), tokens, longest first; as many as there are rows at most. */
  readonly promptLengths: readonly number[];
  /** Slots of the cache for texts beside the dialogues; `longest`: the slots of the longest one, without its prompt. Default: none */
  readonly texts?: { readonly slots: number; readonly longest: number };
}

/** What bounds need to know of a dialogue (generation.ts). */
interface Bounded {
  readonly policy: number;
  readonly prompt: ArrayLike<number>;
  readonly expectedTokens: number;
}

/**
 * The bounds of some dialogues.
 * @param rows  maximum dialogues in the batch at a time
 */
export function boundsOf(dialogues: Iterable<Bounded>, rows: number): DialogueBounds {
  const collected = new BoundsCollector(rows);
  for (const dialogue of dialogues) collected.add(dialogue);
  return collected.bounds();
}

/** Collects the bounds of dialogues that are added one after another. Its memory is that of `rows` prompts. */
export class BoundsCollector {
  readonly #rows: number;
  /** The longest different prompts so far, longest first, and their names. */
  readonly #longest: { readonly key: string; readonly length: number }[] = [];
  readonly #keys = new Set<string>();
  #count = 0;
  #expectedTokens = 0;

  constructor(rows: number) {
    this.#rows = rows;
  }

  /** @param times  how many dialogues with this prompt are added */
  add(dialogue: Bounded, times = 1): void {
    this.#count += times;
    this.#expectedTokens = Math.max(this.#expectedTokens, dialogue.expectedTokens);
    const { length } = dialogue.prompt;
    // A prompt no longer than all that are kept changes no length. A prompt that was dropped is such a one.
    if (this.#longest.length >= this.#rows && length <= this.#longest[this.#longest.length - 1].length) return;
    const key = prefixKeyOf(dialogue);
    if (this.#keys.has(key)) return;
    this.#keys.add(key);
    this.#longest.splice(this.#placeOf(length), 0, { key, length });
    if (this.#longest.length <= this.#rows) return;
    for (const dropped of this.#longest.splice(this.#rows)) this.#keys.delete(dropped.key);
  }

  bounds(): DialogueBounds {
    return {
      count: this.#count,
      expectedTokens: this.#expectedTokens,
      promptLengths: this.#longest.map(({ length }) => length),
    };
  }

  /** The first place whose prompt is shorter, by bisection. */
  #placeOf(length: number): number {
    let low = 0;
    let high = this.#longest.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#longest[middle].length < length) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Dialogues with the same name share the keys and values of their prompt in the cache. */
export function prefixKeyOf({ policy, prompt }: Pick<Bounded, "policy" | "prompt">): string {
  return `${policy}:${Array.from(prompt).join()}`;
}
