// Keeps the finished rollouts of unfinished grid points, so that stopping a sweep loses only the conversations under
// way. They are written every few seconds and when the sweep stops, and read when it continues. The file is deleted
// once its grid points are in cells.jsonl, so an interrupted run ends with the files of an undisturbed one.
import { existsSync, renameSync, rmSync } from "node:fs";
import { z } from "zod";
import { explained, type Journal, type OnDamage, openJournalOf, temporaryPath } from "../../engine/host/index.ts";

const measuredRollout = z.object({
  reward: z.number(),
  /** Assistant tokens. */
  tokens: z.int(),
  /** Summed over the tokens, nats. */
  entropy: z.number(),
  isTruncated: z.boolean(),
  /** Null if the environment asks for no form, or failed. */
  formatFailed: z.boolean().nullable(),
  /** Present if the environment failed: its reward counts as 0. */
  isFailed: z.literal(true).optional(),
  /**
   * Assistant tokens before the first that differs from the checkpoint's (first-difference.ts). Absent if the
   * checkpoint's completions have no such rollout, or if an earlier version wrote the record.
   */
  firstDifference: z.int().optional(),
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

/** Records in the file of points that are in cells.jsonl, beyond as many as are under way. */
const mostDropped = 1000;

const isFound = 1;
const isTruncated = 2;
const formatFailed = 4;
const isFormless = 8;
const isFailed = 16;
const hasDifference = 32;

/**
 * The finished rollouts of one grid point by number: 29 bytes each, outside V8's heap, because millions of them may be
 * under way.
 */
class PointRollouts {
  readonly i: number;
  readonly j: number;
  length = 0;
  #numbers = new Float64Array(0); // [capacity, 3]: reward, tokens, entropy
  #firstDifferences = new Int32Array(0);
  #flags = new Uint8Array(0);
  readonly #conversations = new Map<number, string>();

  constructor({ i, j }: { i: number; j: number }) {
    this.i = i;
    this.j = j;
  }

  has(index: number): boolean {
    return index < this.#flags.length && this.#flags[index] !== 0;
  }

  find(index: number): MeasuredRollout | undefined {
    if (!this.has(index)) return undefined;
    const flags = this.#flags[index];
    return {
      reward: this.#numbers[3 * index],
      tokens: this.#numbers[3 * index + 1],
      entropy: this.#numbers[3 * index + 2],
      isTruncated: (flags & isTruncated) !== 0,
      formatFailed: (flags & isFormless) !== 0 ? null : (flags & formatFailed) !== 0,
      ...((flags & isFailed) !== 0 && { isFailed: true as const }),
      ...((flags & hasDifference) !== 0 && { firstDifference: this.#firstDifferences[index] }),
      conversation: this.#conversations.get(index) ?? null,
    };
  }

  /** All that are there, with their numbers. */
  *all(): Iterable<[number, MeasuredRollout]> {
    for (let index = 0; index < this.#flags.length; index++) {
      const found = this.find(index);
      if (found !== undefined) yield [index, found];
    }
  }

  set(index: number, measured: MeasuredRollout): void {
    if (!this.has(index)) this.length++;
    if (index >= this.#flags.length) this.#grow(index + 1);
    this.#numbers.set([measured.reward, measured.tokens, measured.entropy], 3 * index);
    this.#firstDifferences[index] = measured.firstDifference ?? 0;
    this.#flags[index] =
      isFound |
      (measured.firstDifference === undefined ? 0 : hasDifference) |
      (measured.isTruncated ? isTruncated : 0) |
      (measured.isFailed ? isFailed : 0) |
      (measured.formatFailed === null ? isFormless : measured.formatFailed ? formatFailed : 0);
    if (measured.conversation !== null) this.#conversations.set(index, measured.conversation);
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, 64, this.#flags.length + (this.#flags.length >> 1));
    const numbers = new Float64Array(3 * capacity);
    numbers.set(this.#numbers);
    const firstDifferences = new Int32Array(capacity);
    firstDifferences.set(this.#firstDifferences);
    const flags = new Uint8Array(capacity);
    flags.set(this.#flags);
    this.#numbers = numbers;
    this.#firstDifferences = firstDifferences;
    this.#flags = flags;
  }
}

export class UnderWay {
  readonly #path: string | null;
  readonly #onDamage: OnDamage;
  readonly #intervalMs: number;
  readonly #rolloutsPerPrompt: number;
  #points: PointRollouts[] = [];
  #journal: Journal<UnderWayRecord> | null = null;
  #waiting: UnderWayRecord[] = [];
  /** Records in the file. */
  #written = 0;
  #writtenMs = performance.now();

  /**
   * Reads what an earlier process left.
   * @param path        null to keep the rollouts in memory alone
   * @param intervalMs  shortest time between two writes
   */
  constructor(path: string | null, rolloutsPerPrompt: number, intervalMs: number, onDamage: OnDamage) {
    this.#path = path;
    this.#rolloutsPerPrompt = rolloutsPerPrompt;
    this.#intervalMs = intervalMs;
    this.#onDamage = onDamage;
    if (path !== null && existsSync(path)) this.#open(path);
  }

  /** How many finished rollouts it holds. */
  get length(): number {
    return this.#points.reduce((sum, { length }) => sum + length, 0);
  }

  /** How many of them belong to one grid point. */
  lengthAt(cell: { i: number; j: number }): number {
    return this.#pointAt(cell)?.length ?? 0;
  }

  has(of: RolloutKey): boolean {
    return this.#pointAt(of)?.has(this.#indexOf(of)) ?? false;
  }

  find(of: RolloutKey): MeasuredRollout | undefined {
    return this.#pointAt(of)?.find(this.#indexOf(of));
  }

  add(of: RolloutKey, measured: MeasuredRollout): void {
    this.#store(of, measured);
    if (this.#path === null) return;
    this.#waiting.push({ ...of, ...measured });
    if (performance.now() - this.#writtenMs >= this.#intervalMs) this.write();
  }

  /** Writes the rollouts that are not yet on disk. */
  write(): void {
    this.#writtenMs = performance.now();
    if (this.#waiting.length === 0 || this.#path === null) return;
    const journal = this.#journal ?? this.#open(this.#path);
    // The number of arguments of one call is limited.
    for (let start = 0; start < this.#waiting.length; start += 1000)
      journal.append(...this.#waiting.slice(start, start + 1000));
    this.#written += this.#waiting.length;
    this.#waiting = [];
  }

  /** Deletes all rollouts, once their grid points are in cells.jsonl. */
  clear(): void {
    this.#waiting = [];
    this.#points = [];
    this.#written = 0;
    this.close();
    const path = this.#path;
    if (path !== null) explained(path, () => rmSync(path, { force: true }));
  }

  /**
   * Drops the rollouts of a grid point, once it is in cells.jsonl. The file is written anew when most of it is dropped, so it
   * does not grow with the map.
   */
  drop({ i, j }: { i: number; j: number }): void {
    const isOf = (one: { i: number; j: number }): boolean => one.i === i && one.j === j;
    this.#points = this.#points.filter((point) => !isOf(point));
    this.#waiting = this.#waiting.filter((record) => !isOf(record));
    if (this.#points.length === 0) this.clear();
    else if (this.#path !== null && this.#written > 2 * this.length + mostDropped) this.#rewrite(this.#path);
  }

  #rewrite(path: string): void {
    this.close();
    const fresh = temporaryPath(path);
    const { journal } = openJournalOf(fresh, underWayRecord, this.#onDamage, () => {});
    const perPrompt = this.#rolloutsPerPrompt;
    this.#written = 0;
    for (const point of this.#points) {
      const { i, j } = point;
      const records = Array.from(point.all(), ([index, measured]) => {
        const at = { i, j, prompt: Math.floor(index / perPrompt), rollout: index % perPrompt };
        return { ...at, ...measured };
      });
      for (let start = 0; start < records.length; start += 1000) journal.append(...records.slice(start, start + 1000));
      this.#written += records.length;
    }
    journal.close();
    explained(path, () => renameSync(fresh, path));
    this.#waiting = [];
  }

  close(): void {
    this.#journal?.close();
    this.#journal = null;
  }

  #open(path: string): Journal<UnderWayRecord> {
    this.#written = 0;
    const { journal } = openJournalOf(path, underWayRecord, this.#onDamage, (record) => {
      this.#written++;
      this.#store(record, record);
    });
    this.#journal = journal;
    return journal;
  }

  #store(of: RolloutKey, measured: MeasuredRollout): void {
    let point = this.#pointAt(of);
    if (point === undefined) {
      point = new PointRollouts(of);
      this.#points.push(point);
    }
    point.set(this.#indexOf(of), measured);
  }

  #pointAt({ i, j }: { i: number; j: number }): PointRollouts | undefined {
    return this.#points.find((point) => point.i === i && point.j === j);
  }

  #indexOf({ prompt, rollout }: RolloutKey): number {
    return prompt * this.#rolloutsPerPrompt + rollout;
  }
}
