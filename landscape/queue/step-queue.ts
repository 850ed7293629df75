// The queue of one checkpoint, as the one that hands out sees it: jobs that are out, results that came in, jobs that failed
// or were lost.
import type { Job, Queue, Worker } from "bullmq";
import { partText } from "../files/point-parts.ts";
import type { StudySettings } from "../settings.ts";
import { type HandedPart, isGap } from "./handed-parts.ts";
import {
  type Announcement,
  checked,
  jobId,
  progressSchema,
  type Stripe,
  type StripeProgress,
  stripeSchema,
  type WorkerName,
  workerSchema,
} from "./messages.ts";
import type { SecondWorkers } from "./second-workers.ts";
import type { QueueServer } from "./server.ts";
import { stripesOf } from "./stripes.ts";
import { RefusedResult, type TakenResults } from "./taken-results.ts";
import type { WorkerTable } from "./worker-table.ts";

/** How often a stripe is handed out again after a worker reported an error, or returned what is no result. */
const mostTries = 3;
/** This process takes no job, so the length of its locks does not matter; milliseconds. */
const noLockMs = 60_000;
/** Results that are read at a time. */
const atATime = 4;
/** How long a second worker may take to begin the last checks; milliseconds. */
const checkPatienceMs = 30_000;

interface StepParts {
  server: QueueServer;
  announce: Queue;
  announcement: Announcement;
  taken: TakenResults;
  checks: SecondWorkers;
  workers: WorkerTable;
  settings: StudySettings;
  say(line: string): void;
}

/** A stripe under way. */
export interface ActiveStripe {
  cells: number;
  share: number;
  progress: StripeProgress | null;
}

export class StepQueue {
  readonly taken: TakenResults;
  /** Why stripes could not be measured. */
  readonly failures: string[] = [];
  readonly #parts: StepParts;
  readonly #queue: Queue;
  readonly #watcher: Worker;
  readonly #out = new Map<string, Stripe>();
  readonly #checksOut = new Map<string, Stripe>();
  readonly #tries = new Map<string, number>();
  /** How often each job was taken from a worker, as far as it was said. */
  readonly #stalls = new Map<string, number>();
  #quietSinceMs = performance.now();
  #wasAnnounced = false;

  constructor(parts: StepParts) {
    this.#parts = parts;
    this.taken = parts.taken;
    this.#queue = parts.server.queue(parts.announcement.queue);
    this.#watcher = parts.server.worker(parts.announcement.queue, noLockMs);
  }

  get isDone(): boolean {
    if (this.#out.size > 0) return false;
    return this.#checksOut.size === 0 || this.#isCheckHopeless();
  }

  /** Takes what earlier workers have finished, and hands out what is left. */
  async begin(): Promise<void> {
    const { announcement, taken } = this.#parts;
    await this.takeResults();
    taken.parts.later();
    this.#cut(taken.parts.all);
    for (const job of await this.#queue.getJobs(["waiting", "delayed", "failed"]))
      if (!this.#out.has(String(job.id))) await job.remove().catch(() => {}); // a worker may just have taken it
    for (const job of await this.#queue.getJobs(["failed"])) await job.remove().catch(() => {});
    if (this.#out.size === 0) return;
    await this.#parts.announce.remove(announcement.queue);
    await this.#send();
    await this.#watcher.startStalledCheckTimer();
  }

  /** Cuts what is missing of these parts into jobs. */
  #cut(parts: readonly HandedPart[]): void {
    const { taken, settings } = this.#parts;
    for (const part of parts)
      for (const stripe of stripesOf(
        part,
        part.isTogether ? settings.landscape.pointsAtOnce : 1,
        (cell) => !taken.has(part, cell),
        (cell) => taken.keyOf(part.name, cell),
      ))
        this.#out.set(jobId(stripe), stripe);
  }

  /** Adds what the server lacks; what it has stays as it is. */
  async #send(): Promise<void> {
    const { announce, announcement, say } = this.#parts;
    if (this.#wasAnnounced && !(await this.#isAnnounced()))
      say("The queue's server has lost its jobs: they are handed out again.");
    this.#wasAnnounced = true;
    await announce.add("study", announcement, { jobId: announcement.queue });
    await this.#queue.addBulk(
      [...this.#out, ...this.#checksOut].map(([id, stripe]) => ({
        name: "cells",
        data: stripe,
        opts: { jobId: id, attempts: mostTries, backoff: { type: "fixed", delay: 1000 } },
      })),
    );
  }

  async #isAnnounced(): Promise<boolean> {
    const { announce, announcement } = this.#parts;
    return (await announce.getJob(announcement.queue)) !== undefined;
  }

  /** @returns how many results were taken */
  async takeResults(): Promise<number> {
    let count = 0;
    const jobs = await this.#queue.getJobs(["completed"], 0, atATime - 1, true);
    for (const job of jobs) {
      await this.#take(job);
      count++;
    }
    if (count > 0) this.#quietSinceMs = performance.now();
    return count;
  }

  async #take(job: Job): Promise<void> {
    const { taken, checks, say } = this.#parts;
    const id = String(job.id);
    const stripe = this.#out.get(id) ?? this.#checksOut.get(id) ?? parsedStripe(job.data);
    if (stripe === null) {
      say(`${id.slice(0, 12)}: a job in the queue that is no stripe of cells is removed.`);
      await job.remove();
      return;
    }
    this.#sayStalls(job, stripe);
    try {
      const worker = await taken.take(stripe, job.returnvalue, checks);
      this.#checksOut.delete(id);
      this.#out.delete(id);
      await job.remove();
      const part = taken.parts.find(stripe.part);
      const hasCells = stripe.notBy === null && part !== undefined && !isGap(part);
      const wanted = hasCells ? stripe.cells.filter(() => checks.isChosen()) : [];
      for (const cell of wanted) {
        const check: Stripe = { ...stripe, cells: [cell], notBy: worker.id };
        this.#checksOut.set(jobId(check), check);
      }
      const later = taken.parts.later();
      this.#cut(later);
      // What is taken before the study is announced is sent with the rest.
      if (this.#wasAnnounced && wanted.length + later.length > 0) await this.#send();
    } catch (thrown) {
      if (!(thrown instanceof RefusedResult)) throw thrown;
      await job.remove();
      await this.#again(id, stripe, thrown.message);
    }
  }

  async #again(id: string, stripe: Stripe, reason: string): Promise<void> {
    const { say } = this.#parts;
    const tries = (this.#tries.get(id) ?? 0) + 1;
    this.#tries.set(id, tries);
    if (tries < mostTries) {
      say(`${this.#textOf(stripe)}: ${reason} They are handed out again.`);
      await this.#send();
      return;
    }
    say(`${this.#textOf(stripe)}: ${reason} That was the last of ${mostTries} tries.`);
    this.failures.push(`${this.#textOf(stripe)}: ${reason}`);
    this.#out.delete(id);
    this.#checksOut.delete(id);
  }

  /** The stripes under way. @param isDue  whether it is time to look for lost and failed jobs */
  async look(isDue: boolean): Promise<ActiveStripe[]> {
    if (this.#out.size === 0 && this.#checksOut.size === 0) return [];
    await this.#meetWorkers();
    const jobs = await this.#queue.getJobs(["active"]);
    if (jobs.length > 0) this.#quietSinceMs = performance.now();
    if (isDue) await this.#renew();
    return jobs.flatMap((job) => {
      const id = String(job.id);
      const stripe = this.#out.get(id);
      const known = stripe ?? this.#checksOut.get(id);
      if (known !== undefined) this.#sayStalls(job, known);
      if (stripe === undefined) return [];
      const progress = progressSchema.safeParse(job.progress);
      return {
        cells: stripe.cells.length,
        share: progress.success ? progress.data.share : 0,
        progress: progress.success ? progress.data : null,
      };
    });
  }

  /**
   * Any process of the queue may find that a lock has run out, and only that one gets BullMQ's event. But the job itself counts how
   * often it was taken from a worker. (A job that was added again has another timestamp, and counts from 0.)
   */
  #sayStalls({ id, timestamp, stalledCounter }: Job, stripe: Stripe): void {
    const key = `${id} ${timestamp}`;
    if (stalledCounter <= (this.#stalls.get(key) ?? 0)) return;
    this.#stalls.set(key, stalledCounter);
    this.#parts.say(`A worker died or froze: ${this.#textOf(stripe)} were handed out again.`);
  }

  /** Workers leave their names when they find the study, before they have loaded anything. */
  async #meetWorkers(): Promise<void> {
    const { announce, announcement, workers } = this.#parts;
    const { logs } = await announce.getJobLogs(announcement.queue);
    for (const line of logs) {
      const worker = parsedWorker(line);
      if (worker !== null) workers.meet(worker);
    }
  }

  async #renew(): Promise<void> {
    for (const job of await this.#queue.getJobs(["failed"])) {
      const id = String(job.id);
      const stripe = this.#out.get(id) ?? this.#checksOut.get(id);
      await job.remove();
      if (stripe === undefined) continue;
      this.#tries.set(id, mostTries - 1); // BullMQ has tried it as often
      await this.#again(id, stripe, `${job.failedReason}.`);
    }
    const counts = await this.#queue.getJobCounts("waiting", "active", "delayed", "completed", "failed");
    const there = Object.values(counts).reduce((sum, count) => sum + count, 0);
    const isAnnounced = await this.#isAnnounced();
    const lost = this.#out.size + this.#checksOut.size - there;
    if (lost <= 0 && isAnnounced) return;
    if (isAnnounced) this.#parts.say(`The queue's server has lost ${lost} jobs: they are handed out again.`);
    await this.#send();
  }

  /** Whether no second worker is there for the checks that are left. */
  #isCheckHopeless(): boolean {
    const isAlone = this.#parts.workers.size < 2;
    if (!isAlone && performance.now() - this.#quietSinceMs < checkPatienceMs) return false;
    this.#parts.checks.giveUp(this.#checksOut.size);
    this.#checksOut.clear();
    return true;
  }

  /** Removes what the queue has of the study. */
  async end(): Promise<void> {
    await this.#parts.announce.remove(this.#parts.announcement.queue);
    await this.#queue.obliterate({ force: true });
  }

  #textOf({ part, cells }: Stripe): string {
    const [first] = cells;
    const last = cells[cells.length - 1];
    return `Step ${this.#parts.announcement.step}, ${partText(part)}, cells (${first.i}, ${first.j}) to (${last.i}, ${last.j})`;
  }
}

function parsedWorker(line: string): WorkerName | null {
  try {
    return checked(workerSchema, JSON.parse(line));
  } catch {
    return null;
  }
}

function parsedStripe(data: unknown): Stripe | null {
  try {
    return checked(stripeSchema, data);
  } catch {
    return null;
  }
}
