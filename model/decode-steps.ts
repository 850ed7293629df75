// The decode steps of a generation: passes in which every row has one waiting token. A step runs the same dispatches as the
// step before, as long as as many rows of the same policies are under way, whichever rows they are. So it is replayed
// (engine/replay.ts). What changes from step to step lies in tensors that live as long as the generation, and that the host
// writes before a step: where each token's keys lie and go, the counters of the noise, and positions. The token that
// a step draws for a row takes the place of the token that the step read, so the next step finds it there.
import {
  copyElements,
  empty,
  fromHost,
  keepAll,
  Replay,
  readTensors,
  type SampledTokens,
  sampleTokens,
  scopeAsync,
  type Tensor,
  tokenCounterRow,
} from "../engine/index.ts";
import { seenAlong } from "./drafts.ts";
import type { GenerateSettings, Model } from "./generate-settings.ts";
import type { KvCache } from "./kv-cache.ts";
import { finalStates, headWeight } from "./language-model.ts";
import { type PassTokens, placesOf } from "./pass-tokens.ts";

/** What a pass drew, in the order of the samples. */
export interface Drawn {
  readonly ids: ArrayLike<number>;
  readonly logProbs: ArrayLike<number>;
  readonly entropies: ArrayLike<number>;
}

/** Not a slot of any cache: the keys and values of such a token are stored nowhere. */
const noSlot = 0xffffffff;

export class DecodeSteps {
  readonly #model: Model;
  readonly #cache: KvCache;
  readonly #settings: GenerateSettings;
  /** For counts of what was replayed. */
  readonly replay: Replay;
  /** All tensors of this object. */
  readonly #made: readonly Tensor[];
  /** One number for each row: the token that a step reads and then draws, and its scores. */
  readonly #results: SampledTokens;
  /**
   * For T tokens and P samples: spans [T, 4], counters [P, 4] and slots [T], one after another (`placesOf`). If samples share
   * tokens, also the ids [T], the token of each sample [P], and the slots of copies, from and to, [P − T] each.
   */
  readonly #given: Tensor;
  readonly #positions: Uint32Array;
  /**
   * The results of the steps between two reads, one after another; null if there is one step. They are made once, for the most
   * steps: a step's memory must be free when it is replayed, and a plan of memory does not know how many steps there will be.
   */
  readonly #kept: SampledTokens | null;
  readonly #rows: number;
  readonly #steps: number;
  /** The tokens that the device holds in `#results`. */
  #drawn: ArrayLike<number> = [];
  /** The step under way. */
  #tokens: PassTokens | null = null;

  /**
   * @param rows   the most rows that a step has
   * @param steps  the most steps between two reads
   */
  constructor(model: Model, cache: KvCache, settings: GenerateSettings, rows: number, steps: number) {
    const { backend } = model;
    this.#model = model;
    this.#cache = cache;
    this.#settings = settings;
    this.replay = new Replay(backend);
    this.#rows = rows;
    this.#steps = steps;
    this.#made = keepAll(() => [
      empty(backend, [11 * rows + 32], "u32", "spans, counters and slots"),
      ...this.#makeResults(1),
      ...(steps === 1 ? [] : this.#makeResults(steps)),
    ]);
    this.#given = this.#made[0];
    this.#results = resultsIn(this.#made.slice(1, 4));
    this.#kept = steps === 1 ? null : resultsIn(this.#made.slice(4));
    this.#positions = new Uint32Array(rows);
  }

  /** Whether a pass is a decode step. (The embedding refuses an id outside the vocabulary: that pass is left to it.) */
  isStep({ added, ids, drawings, readings }: PassTokens): boolean {
    return readings.length === 0 && added === drawings.length && ids.every((id) => id < this.#model.config.vocabSize);
  }

  /**
   * Runs steps, each submitted by itself, and reads once.
   * @param usable  for each row, the steps that have slots in the cache; later ones repeat its last position, and their
   *                tokens are dropped
   */
  async draw(tokens: PassTokens, usable: readonly number[], steps: number): Promise<Drawn[]> {
    const { backend } = this.#model;
    if (steps > this.#steps)
      throw new Error(`DecodeSteps: there is room for ${this.#steps} steps between two reads, got ${steps}`);
    const P = tokens.drawings.length;
    const isShared = tokens.ids.length < P;
    if (isShared && steps > 1) throw new Error("DecodeSteps: rows that share tokens may part after each step");
    const own = slice(this.#results, 0, P);
    // One step's results are read where they are.
    const kept = steps === 1 ? null : this.#kept;
    // The tokens that the step before drew are there already, unless rows have come or gone.
    const lies = this.#drawn;
    if (!isShared && (P !== lies.length || tokens.ids.some((id, r) => id !== lies[r])))
      own.ids.write(Uint32Array.from(tokens.ids));
    const key = this.#keyOf(tokens);
    this.#tokens = tokens;
    return scopeAsync(async () => {
      const drawn: SampledTokens[] = [];
      for (let step = 0; step < steps; step++) {
        if (step > 0) backend.flush(); // the device begins while the host builds the next step
        this.#write(tokens, usable, step);
        this.replay.run(key, () => this.#step(own, tokens));
        const to = kept === null ? own : slice(kept, step * P, P);
        if (kept !== null) copyAll(own, to);
        drawn.push(to);
      }
      const read = await readTensors(drawn.flatMap(({ ids, logProbs, entropy }) => [ids, logProbs, entropy]));
      this.#drawn = read[3 * (steps - 1)];
      return drawn.map((_, step) => ({
        ids: read[3 * step],
        logProbs: read[3 * step + 1],
        entropies: read[3 * step + 2],
      }));
    });
  }

  free(): void {
    for (const tensor of this.#made) tensor.free();
  }

  /** In the order of `resultsIn`. */
  #makeResults(steps: number): Tensor[] {
    const { backend, weights } = this.#model;
    const make = (dtype: Tensor["dtype"], label: string): Tensor => empty(backend, [steps * this.#rows], dtype, label);
    return [make("u32", "tokens"), make(weights.dtype, "logProbs"), make(weights.dtype, "entropy")];
  }

  /** What the list of dispatches depends on: how many tokens each policy has, and how many samples are drawn. */
  #keyOf({ ids, groups, drawings }: PassTokens): string {
    const samples = `${drawings.length} samples after `;
    if (!this.#model.weights.isPerturbed) return samples + ids.length;
    return samples + groups.map(({ count, point }) => `${count} of ${point}`).join(", ");
  }

  /** Where the parts of `#given` begin, and where the last ends. */
  #places(T: number, P: number): number[] {
    return placesOf(4 * T, 4 * P, T, ...(T === P ? [] : [T, P, P - T, P - T]));
  }

  /** Writes what this step is given. */
  #write(tokens: PassTokens, usable: readonly number[], step: number): void {
    const { ids, positions, spans, slots, drawings, sampledAt, copies } = tokens;
    const [T, P] = [ids.length, drawings.length];
    const places = this.#places(T, P);
    const [spansAt, countersAt, slotsAt] = places;
    const given = new Uint32Array(places[places.length - 1]);
    given.set(spans, spansAt);
    const laterOf = (r: number): number => (step === 0 ? 0 : Math.min(step, usable[r] - 1));
    for (let t = 0; t < T; t++) {
      const later = laterOf(t); // 0 if a token is shared, so that it need not be a sample's number
      this.#positions[t] = positions[t] + later;
      given[spansAt + 4 * t + 3] += later;
      given[slotsAt + t] = later === step ? slots[t] + step : noSlot;
    }
    for (let p = 0; p < P; p++) {
      const { dialogue, turn, answer } = drawings[p].row;
      const { rollout, prompt } = dialogue.noise;
      const counter = tokenCounterRow({ position: answer.ids.length + laterOf(p), turn, rollout, prompt });
      for (let word = 0; word < 4; word++) given[countersAt + 4 * p + word] = counter[word];
    }
    if (T < P) {
      const [idsAt, rowsAt, fromAt, toAt] = places.slice(3);
      given.set(ids, idsAt);
      given.set(sampledAt, rowsAt);
      given.set(copies.from, fromAt);
      given.set(copies.to, toAt);
    }
    this.#given.sliceRows(0, given.length).write(given);
  }

  /** One step. It depends on the key, on the tensors of this object, and through `fromHost` on what changes on the host. */
  #step(own: SampledTokens, { ids, groups, drawings }: PassTokens): void {
    const { config, weights } = this.#model;
    const { keys, values } = this.#cache;
    const { noiseKey, temperature, warping } = this.#settings;
    const [T, P] = [ids.length, drawings.length];
    const isShared = T < P;
    const [spansAt, countersAt, slotsAt, idsAt, rowsAt, fromAt, toAt] = this.#places(T, P);
    const rows = weights.isPerturbed ? groups : null;
    const part = (start: number, count: number): Tensor => this.#given.sliceRows(start, count);
    const fours = (start: number, count: number): Tensor => part(start, 4 * count).view([count, 4]);
    const batch = {
      ids: { tensor: isShared ? part(idsAt, T) : own.ids, host: null },
      positions: this.#positions.subarray(0, T),
      spans: fours(spansAt, T),
      querySpans: null,
      rows,
    };
    const into = {
      ...{ keys, values, slots: part(slotsAt, T) },
      ...(isShared && { copies: { from: part(fromAt, P - T), to: part(toAt, P - T) } }),
    };
    const last = finalStates(config, weights, batch, into); // [T, C]
    sampleTokens(last, headWeight(config, weights), rows, {
      ...{ counters: fours(countersAt, P), key: noiseKey, temperature, into: own },
      rowOf: isShared ? part(rowsAt, P) : null,
      warping: warping && { ...warping, seen: this.#seen(P) },
    });
  }

  /** As `seenTable` of a pass, of the step under way. */
  #seen(R: number): Tensor | null {
    const words = this.#tokens?.drawings[0].row.seen?.length;
    if (words === undefined) return null;
    return fromHost(
      this.#model.backend,
      () => {
        const table = new Uint32Array(R * words);
        this.#tokens?.drawings.forEach(({ row, draft }, r) => {
          if (row.seen !== null) seenAlong(row.seen, draft, table.subarray(r * words));
        });
        return table;
      },
      [R, words],
      "u32",
      "seen ids",
    );
  }
}

function slice({ ids, logProbs, entropy }: SampledTokens, start: number, count: number): SampledTokens {
  const rows = (tensor: Tensor): Tensor => tensor.sliceRows(start, count);
  return { ids: rows(ids), logProbs: rows(logProbs), entropy: rows(entropy) };
}

function copyAll(from: SampledTokens, to: SampledTokens): void {
  copyElements(from.ids, to.ids);
  copyElements(from.logProbs, to.logProbs);
  copyElements(from.entropy, to.entropy);
}

const resultsIn = ([ids, logProbs, entropy]: readonly Tensor[]): SampledTokens => ({ ids, logProbs, entropy });
