// The key/value cache. A dialogue has two runs of slots in the layers' storage: a prefix, and the dialogue's other
// tokens. A prefix holds the keys of a prompt that several dialogues share. It is looked up by a key, and its users are
// counted.
//
// Runs are allocated first fit. No run crosses a segment boundary of the storage, so one dispatch sees all keys of a
// run in order; and none lies in an earlier segment than its prefix.
import { type Backend, empty, keepAll, memoryLabel, type OperandPrecision, type Tensor } from "../engine/index.ts";
import type { ModelFacts } from "./language-model.ts";

const bytesPerNumber: Readonly<Record<OperandPrecision, number>> = { f32: 4, f16: 2 };

export interface CacheRun {
  readonly start: number;
  readonly length: number;
}

/** A prompt that dialogues share. */
export interface CachedPrefix extends CacheRun {
  /** How many dialogues under way share it. */
  users: number;
  /** The name of its tokens' history (pass-tokens.ts), once they are computed. */
  history: number;
}

interface Prefix extends CachedPrefix {
  readonly key: string;
}

/** The facts that determine the size of a cache. */
type CachedShape = Pick<ModelFacts, "numHiddenLayers" | "numKeyValueHeads" | "headDim">;

export class KvCache {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly slots: number;
  /** Free runs, sorted by start. Adjacent runs are merged, but not across a boundary of `segment`. */
  #free: CacheRun[];
  readonly #boundaries: ReadonlySet<number>;
  /** Slots of each segment of the storage but the last, which may have fewer. */
  readonly #perSegment: number;
  readonly #prefixes = new Map<string, Prefix>();

  /**
   * @param slots      total number of tokens that the cache can hold
   * @param precision  the type of keys and values. Default f32
   */
  constructor(backend: Backend, config: CachedShape, slots: number, precision: OperandPrecision = "f32") {
    const shape = [slots, config.numKeyValueHeads, config.headDim];
    const storage = (name: string): Tensor[] =>
      Array.from({ length: config.numHiddenLayers }, (_, layer) =>
        empty(backend, shape, precision, memoryLabel("KV cache", `${name}.${layer}`)),
      );
    const layers = keepAll(() => [...storage("keys"), ...storage("values")]);
    this.keys = layers.slice(0, config.numHiddenLayers);
    this.values = layers.slice(config.numHiddenLayers);
    this.slots = slots;
    this.#free = [];
    const boundaries = new Set<number>();
    let start = 0;
    for (const segment of this.keys[0].segments) {
      this.#free.push({ start, length: segment.rows });
      start += segment.rows;
      boundaries.add(start);
    }
    this.#boundaries = boundaries;
    this.#perSegment = this.keys[0].segments[0]?.rows ?? 1;
  }

  /** Slots per segment, if the storage is split. */
  static slotsPerSegment(
    { limits }: Pick<Backend, "limits">,
    { numKeyValueHeads, headDim }: CachedShape,
    precision: OperandPrecision = "f32",
  ): number {
    const fitting = Math.floor(limits.maxBufferBytes / (numKeyValueHeads * headDim * bytesPerNumber[precision]));
    const aligned = precision === "f16" ? 64 : 32; // so that a segment ends at a multiple of 256 bytes
    return Math.floor(fitting / aligned) * aligned;
  }

  /**
   * Allocates a run of slots; null when no gap is long enough.
   * @param after  a run whose keys come before these. Attention goes through the segments of the storage in their order, which is the
   *               order of its sums, so this run is in no earlier segment than that one
   */
  allocate(length: number, after: CacheRun | null = null): CacheRun | null {
    const from = after === null ? 0 : Math.floor(after.start / this.#perSegment) * this.#perSegment;
    const index = this.#free.findIndex((gap) => gap.start >= from && gap.length >= length);
    if (index < 0) return null;
    const gap = this.#free[index];
    const rest = { start: gap.start + length, length: gap.length - length };
    this.#free.splice(index, 1, ...(rest.length > 0 ? [rest] : []));
    return { start: gap.start, length };
  }

  /** Frees a run for other dialogues. */
  release(run: CacheRun): void {
    if (run.length === 0) return;
    let index = this.#free.findIndex((gap) => gap.start > run.start);
    if (index < 0) index = this.#free.length;
    let { start, length } = run;
    const after = this.#free[index];
    if (after !== undefined && start + length === after.start && !this.#boundaries.has(after.start)) {
      length += after.length;
      this.#free.splice(index, 1);
    }
    const before = this.#free[index - 1];
    if (before !== undefined && before.start + before.length === start && !this.#boundaries.has(start)) {
      start = before.start;
      length += before.length;
      this.#free.splice(--index, 1);
    }
    this.#free.splice(index, 0, { start, length });
  }

  /**
   * Adds a user to the prefix under `key` and returns it. A new prefix is allocated (`isNew`: its keys must still be
   * computed);
   * null when no gap is long enough.
   */
  sharePrefix(key: string, length: number): { run: CachedPrefix; isNew: boolean } | null {
    const found = this.#prefixes.get(key);
    if (found !== undefined) {
      found.users++;
      return { run: found, isNew: false };
    }
    const run = this.allocate(length);
    if (run === null) return null;
    const made = { ...run, key, users: 1, history: Number.NaN };
    this.#prefixes.set(key, made);
    return { run: made, isNew: true };
  }

  /** Removes a user from a prefix. After the last user its run is released. */
  releasePrefix(key: string): void {
    const found = this.#prefixes.get(key);
    if (found === undefined) throw new Error(`KvCache: no prefix "${key}"`);
    if (--found.users > 0) return;
    this.#prefixes.delete(key);
    this.release(found);
  }

  /** Whether the storage of each layer is in one segment, so that slots can be copied to any other slots. */
  get isWhole(): boolean {
    return this.keys[0].segments.length === 1;
  }

  get freeSlots(): number {
    return this.#free.reduce((sum, gap) => sum + gap.length, 0);
  }

  /** Frees the storage of all layers. */
  free(): void {
    for (const tensor of [...this.keys, ...this.values]) tensor.free();
  }
}
