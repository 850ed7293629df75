// Keeps the finished rollouts of unfinished grid points, so that stopping a sweep loses only the conversations under
// way. They are written every few seconds and when the sweep stops, and read when it continues. The file is deleted
// once its grid points are in cells.jsonl, so an interrupted run ends with the files of an undisturbed one.
import { existsSync, rmSync } from "node:fs";
import { z } from "zod";
import { explained, type Journal, type OnDamage, openJournal } from "../../engine/host/index.ts";

const measuredRollout = z.object({
  reward: z.number(),
  /** Assistant tokens. */
  tokens: z.int(),
  /** Summed over the tokens, nats. */
  entropy: z.number(),
  isTruncated: z.boolean(),
  formatFailed: z.boolean(),
  /** The conversation as one line of JSON; null if it is not kept for reading. */
  conversation: z.string().nullable(),
});
/** The measurements of a rollout that a sweep keeps. */
export type MeasuredRollout = z.infer<typeof measuredRollout>;

const key = z.object({ i: z.int(), j: z.int(), prompt: z.int(), rollout: z.int() });
/** Which rollout of which prompt (counted from 0 in the prompt set) at which grid point. */
export type RolloutKey = z.infer<typeof key>;

const underWayRecord = key.extend(measuredRollout.shape);
type UnderWayRecord = z.infer<typeof underWayRecord>;

const nameOf = ({ i, j, prompt, rollout }: RolloutKey): string => `${i},${j},${prompt},${rollout}`;

export class UnderWay {
  readonly #path: string;
  readonly #onDamage: OnDamage;
  readonly #intervalMs: number;
  readonly #found = new Map<string, MeasuredRollout>();
  #journal: Journal<UnderWayRecord> | null = null;
  #waiting: UnderWayRecord[] = [];
  #writtenMs = performance.now();

  /**
   * Reads what an earlier process left.
   * @param intervalMs  shortest time between two writes
   */
  constructor(path: string, intervalMs: number, onDamage: OnDamage) {
    this.#path = path;
    this.#intervalMs = intervalMs;
    this.#onDamage = onDamage;
    if (existsSync(path)) this.#open();
  }

  /** How many finished rollouts it holds. */
  get length(): number {
    return this.#found.size;
  }

  find(of: RolloutKey): MeasuredRollout | undefined {
    return this.#found.get(nameOf(of));
  }

  add(of: RolloutKey, measured: MeasuredRollout): void {
    this.#found.set(nameOf(of), measured);
    this.#waiting.push({ ...of, ...measured });
    if (performance.now() - this.#writtenMs >= this.#intervalMs) this.write();
  }

  /** Writes the rollouts that are not yet on disk. */
  write(): void {
    this.#writtenMs = performance.now();
    if (this.#waiting.length === 0) return;
    const journal = this.#journal ?? this.#open();
    // The number of arguments of one call is limited.
    for (let start = 0; start < this.#waiting.length; start += 1000)
      journal.append(...this.#waiting.slice(start, start + 1000));
    this.#waiting = [];
  }

  /** Deletes all rollouts, once their grid points are in cells.jsonl. */
  clear(): void {
    this.#waiting = [];
    this.#found.clear();
    this.close();
    explained(this.#path, () => rmSync(this.#path, { force: true }));
  }

  close(): void {
    this.#journal?.close();
    this.#journal = null;
  }

  #open(): Journal<UnderWayRecord> {
    const { journal, records } = openJournal(this.#path, underWayRecord, this.#onDamage);
    for (const { i, j, prompt, rollout, ...measured } of records)
      this.#found.set(nameOf({ i, j, prompt, rollout }), measured);
    this.#journal = journal;
    return journal;
  }
}
