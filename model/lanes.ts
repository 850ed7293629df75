// Lanes of a generation: batches of their own that share one device and one queue of dialogues. While the device computes a pass
// of one lane, the host is at work for another: it takes samples, asks for rewards, and makes the next pass. A dialogue's tokens do
// not depend on the rows beside it, so the number of lanes changes no bit of a result.
import type { Backend } from "../engine/index.ts";
import type { Dialogue } from "./dialogue.ts";
import type { Row } from "./pass-tokens.ts";
import { beginRow } from "./rows-under-way.ts";

/**
 * Rows of a lane, at least, for a batch to be cut in two. Two passes have twice the dispatches of one of all rows, and with fewer rows
 * those cost as much as is gained: the tiny study's training, of 128 rows, took as long with two lanes of 64, its maps, of 448
 * rows, 0.77 and 0.93 of the time (two alternating pairs on 2 busy cores, Mesa 25.0.7).
 */
const fewestRows = 96;

/**
 * How many rows each lane has: the parts of a batch.
 * @returns one number, or two if the device shares the host's memory, and so waits for the host at every read. On a GPU several
 *          decode steps run between two reads instead (steps-per-read.ts)
 */
export function rowsOfLanes({ memory }: Pick<Backend, "memory">, rows: number): number[] {
  return memory === "host" && rows >= 2 * fewestRows ? [Math.ceil(rows / 2), Math.floor(rows / 2)] : [rows];
}

/** The dialogues that have not begun, in their order. */
export class DialogueQueue {
  readonly #incoming: Iterator<Dialogue | null>;
  readonly #seenVocabulary: number | null;
  #next: Row | null = null;
  #isExhausted = false;

  /** @param seenVocabulary  how many ids a row keeps track of; null for none */
  constructor(incoming: Iterator<Dialogue | null>, seenVocabulary: number | null) {
    this.#incoming = incoming;
    this.#seenVocabulary = seenVocabulary;
  }

  /** Whether no dialogue will come any more; known once `next` was asked for it. */
  get isExhausted(): boolean {
    return this.#isExhausted && this.#next === null;
  }

  /** The next dialogue, which stays in the queue; null if there is none now. */
  next(): Row | null {
    if (this.#next !== null || this.#isExhausted) return this.#next;
    const { done, value } = this.#incoming.next();
    if (done) this.#isExhausted = true;
    else if (value !== null) this.#next = beginRow(value, this.#seenVocabulary);
    return this.#next;
  }

  /** Takes the next dialogue out of the queue. */
  take(): void {
    this.#next = null;
  }
}

/** What the lanes of a generation know of each other. */
export class Lanes {
  /** Whether each has dialogues under way, or waits for something that may bring some. */
  readonly #works: boolean[];
  #change = signal();
  readonly #failure = signal();
  #hasFailed = false;

  constructor(count: number) {
    this.#works = new Array<boolean>(count).fill(true);
  }

  /** Whether a lane has failed: then the others end too, with their dialogues unfinished. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Resolves when a lane fails. */
  get failure(): Promise<void> {
    return this.#failure.promise;
  }

  /** Runs all lanes to their end. @throws what the first to fail has thrown */
  async run(body: (lane: number) => Promise<void>): Promise<void> {
    const thrown: unknown[] = [];
    const runOne = async (lane: number): Promise<void> => {
      try {
        await body(lane);
      } catch (error) {
        thrown.push(error);
        this.#hasFailed = true;
        this.#failure.resolve();
      }
      this.works(lane, false);
      this.changed();
    };
    await Promise.all(this.#works.map((_, lane) => runOne(lane)));
    if (thrown.length > 0) throw thrown[0];
  }

  works(lane: number, does: boolean): void {
    this.#works[lane] = does;
  }

  /** Whether no other lane works. */
  isAlone(lane: number): boolean {
    return this.#works.every((works, other) => !works || other === lane);
  }

  /** Tells the lanes that wait for it that something has happened. */
  changed(): void {
    this.#change.resolve();
    this.#change = signal();
  }

  /** Resolves when something has happened in another lane that may bring dialogues, or the end. */
  change(): Promise<void> {
    return this.#change.promise;
  }
}

interface Signal {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

function signal(): Signal {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
