// A worker: takes stripes of cells from the queue of one checkpoint after another, measures them, and hands the results in. It
// writes nothing to disk. It stays with a checkpoint, its directions and its drafts as long as that queue has cells.
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import type { Queue, Worker } from "bullmq";
import { asError, killPoint, type Phase, UserError } from "../../engine/host/index.ts";
import { type Item, type ItemPart, itemParts } from "../files/item-parts.ts";
import { type PointPart, partText } from "../files/point-parts.ts";
import { isUnreached, type SliceFacts, unreachedText } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import { type AskedPoints, measureAsked } from "../measure/asked-points.ts";
import { withItems } from "../measure/item-parts.ts";
import { openPart } from "../measure/open-part.ts";
import { MEND_UNREACHED } from "../measure/sweep.ts";
import { askedPart, placesOf } from "./asked-part.ts";
import { HeldJob } from "./held-job.ts";
import {
  type Announcement,
  announcementSchema,
  checked,
  packResult,
  type ResultBody,
  type Stripe,
  type StripeResult,
  stripeSchema,
  type WorkerName,
} from "./messages.ts";
import { type OpenStudy, openStudy, refusal, type WorkerMachine } from "./open-study.ts";
import type { QueueServer } from "./server.ts";
import { announcements } from "./study-message.ts";

export interface WorkOptions {
  server: QueueServer;
  machine: WorkerMachine;
  name: string;
  /** How long a job stays with a worker that does not renew its lock, milliseconds. */
  lockMs: number;
  /** Ends after so long without work, milliseconds. */
  idleMs: number;
}

const askEveryMs = 300;
/** How long a worker stays with a part that has no cells at the moment, milliseconds. */
const stayMs = 2000;
/** Names of workers that the server keeps for a study. */
const mostNames = 1000;
/** Results that the server did not take, kept in case their cells are asked for again. */
const mostSpare = 16;

/** Jobs of one part, one after another. */
interface Stripes {
  /** The one under way; null once the queue has no other one of this part. */
  held: HeldJob | null;
  /** One of another part that was taken instead. */
  other: HeldJob | null;
  /** Ends the one under way. */
  next(): Promise<void>;
}

/** Works until there was no work for a while. @returns how many cells it has measured */
export async function work(options: WorkOptions): Promise<number> {
  const worker = new QueueWorker(options);
  try {
    return await worker.run();
  } finally {
    worker.free();
  }
}

class QueueWorker {
  readonly #options: WorkOptions;
  readonly #self: WorkerName;
  readonly #announce: Queue;
  readonly #queues = new Map<string, { queue: Queue; worker: Worker }>();
  /** Studies that this worker does not measure for, each said once. */
  readonly #refused = new Set<string>();
  readonly #introduced = new Set<string>();
  readonly #spare = new Map<string, StripeResult>();
  #open: OpenStudy | null = null;
  #measured = 0;

  constructor(options: WorkOptions) {
    this.#options = options;
    this.#self = { id: randomUUID(), name: options.name };
    this.#announce = options.server.queue(announcements);
  }

  async run(): Promise<number> {
    const { machine, idleMs, server } = this.#options;
    const { signal, progress } = machine;
    let idleSinceMs = performance.now();
    try {
      for (;;) {
        signal.throwIfAborted();
        const found = await this.#nextStudy();
        server.answered();
        if (found !== null && (await this.#serve(found))) idleSinceMs = performance.now();
        else if (performance.now() - idleSinceMs > idleMs) {
          progress.line(`No work for ${Math.round(idleMs / 1000)} s: this worker ends (--idle-seconds).`);
          break;
        } else await setTimeout(askEveryMs, undefined, { signal });
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
      progress.line("Stopped. The grid points under way are given back: another worker measures them.");
    }
    return this.#measured;
  }

  free(): void {
    this.#open?.free();
    this.#open = null;
  }

  /** The study to work for: the open one as long as it has cells, else the one with the most cells. */
  async #nextStudy(): Promise<Announcement | null> {
    const jobs = await this.#announce.getJobs(["waiting"]);
    let best: { announcement: Announcement; waiting: number } | null = null;
    for (const { id, data } of jobs) {
      const announcement = this.#accepted(String(id), data);
      if (announcement === null) continue;
      const waiting = await this.#waitingIn(announcement);
      if (waiting === 0) continue;
      if (announcement.queue === this.#open?.announcement.queue) return announcement;
      if (best === null || waiting > best.waiting) best = { announcement, waiting };
    }
    return best?.announcement ?? null;
  }

  /** The announcement if this worker may measure for it; else null, and why is said once. */
  #accepted(id: string, data: unknown): Announcement | null {
    const { machine } = this.#options;
    if (this.#refused.has(id)) return null;
    try {
      const announcement = checked(announcementSchema, data);
      const reason = refusal(announcement, machine.plan);
      if (reason === null) {
        this.#introduce(announcement.queue);
        return announcement;
      }
      this.#refuse(announcement.queue, reason);
    } catch (thrown) {
      this.#refuse(id, `its message is none of this version (${asError(thrown).message}).`);
    }
    return null;
  }

  /** Leaves this worker's name with the study: so the one that hands out knows of it before it has measured anything. */
  #introduce(queue: string): void {
    if (this.#introduced.has(queue)) return;
    this.#introduced.add(queue);
    void this.#announce.addJobLog(queue, JSON.stringify(this.#self), mostNames).catch(() => {});
  }

  #refuse(queue: string, reason: string): void {
    this.#refused.add(queue);
    this.#options.machine.progress.line(`The study in queue ${queue.slice(0, 60)} is refused: ${reason}`);
  }

  /** Jobs that this worker may take. */
  async #waitingIn({ queue: name }: Announcement): Promise<number> {
    const { queue } = this.#queueOf(name);
    const { waiting } = await queue.getJobCounts("waiting");
    if (waiting > 0) return waiting;
    // Checks wait for a second worker.
    const delayed = await queue.getJobs(["delayed"], 0, 3);
    return delayed.filter(({ data }) => stripeOf(data)?.notBy !== this.#self.id).length;
  }

  #queueOf(name: string): { queue: Queue; worker: Worker } {
    const found = this.#queues.get(name);
    if (found !== undefined) return found;
    const { server, lockMs } = this.#options;
    const made = { queue: server.queue(name), worker: server.worker(name, lockMs) };
    void made.worker.startStalledCheckTimer();
    this.#queues.set(name, made);
    return made;
  }

  /** Measures what a queue has. @returns whether it had anything */
  async #serve(announcement: Announcement): Promise<boolean> {
    const { worker } = this.#queueOf(announcement.queue);
    const first = await this.#next(worker);
    if (first === null) return false;
    let pending: HeldJob | null = first;
    try {
      const study = await this.#opened(announcement);
      while (pending !== null) pending = await this.#servePart(study, worker, pending);
    } catch (thrown) {
      const error = asError(thrown);
      if (pending !== null) await this.#release(pending, error);
      const isOurs = error instanceof UserError && !this.#options.machine.signal.aborted;
      if (!isOurs || pending !== first) throw thrown;
      // Another study may suit this worker better.
      this.#refuse(announcement.queue, error.message);
    }
    return true;
  }

  async #opened(announcement: Announcement): Promise<OpenStudy> {
    const { queue, settings } = announcement;
    if (this.#open?.announcement.queue === queue && this.#open.announcement.settings === settings) return this.#open;
    this.free();
    this.#open = await openStudy(announcement, this.#options.machine);
    return this.#open;
  }

  /** Gives a job back when this worker was stopped or does not suit; else it has failed. */
  async #release(job: HeldJob, error: Error): Promise<void> {
    if (this.#options.machine.signal.aborted || error instanceof UserError) await job.giveBack();
    else await job.fail(`worker ${this.#self.name}: ${error.message.split("\n")[0]}`);
  }

  /** Measures stripes of one part, beginning with `first`. @returns a job of another part, or null */
  async #servePart(study: OpenStudy, worker: Worker, first: HeldJob): Promise<HeldJob | null> {
    const { settings } = study.context;
    const { step } = study.announcement;
    const { part: name } = first.stripe;
    const stripes: Stripes = {
      held: first,
      other: null,
      next: async () => {
        const job = await this.#nextWithin(worker, stayMs);
        const isOwn = job === null || job.stripe.part === name;
        if (!isOwn) stripes.other = job;
        stripes.held = isOwn ? job : null;
      },
    };
    try {
      const points = askedPart(settings, step, name);
      const items = itemParts(settings, step).find((one) => one.name === name);
      if (points !== undefined) await this.#servePoints(study, points, stripes);
      else if (items !== undefined) await this.#serveItems(study, items, stripes);
      else throw new UserError(`queue: the study has no ${name}.`);
    } catch (thrown) {
      if (stripes.held !== null) await this.#release(stripes.held, asError(thrown));
      throw thrown;
    }
    return stripes.other;
  }

  async #servePoints(study: OpenStudy, part: PointPart, stripes: Stripes): Promise<void> {
    const { context, reference, facts: known } = study;
    const made = await openPart(context, part, reference, known.get(part.name) ?? null);
    const { facts, worst, set } = made;
    const asked = async function* (this: QueueWorker): AsyncGenerator<AskedPoints> {
      for (; stripes.held !== null; await stripes.next()) {
        const points = this.#asked(study, stripes.held, part.points, { facts, worst });
        if (worst !== null && worst.problem !== null) {
          await points.finish();
          continue;
        }
        await made.prepare(points.cells);
        yield points;
      }
    }.bind(this);
    try {
      if (facts !== null) known.set(part.name, facts);
      if (facts !== null && isUnreached(facts)) await this.#failUnreached(stripes, facts);
      else await measureAsked(made.context, set, made.reference, asked());
    } finally {
      set.free();
    }
  }

  async #serveItems(study: OpenStudy, part: ItemPart, stripes: Stripes): Promise<void> {
    const { context, reference, checkpointAt, facts: known } = study;
    const { progress } = this.#options.machine;
    const slice = `slice-${part.map?.slice}`;
    const phase = progress.phase(`step ${study.announcement.step}, ${partText(part.name)}`, 1, "parts");
    const sources = { context, reference, checkpointAt, known: known.get(slice) ?? null, phase };
    await withItems(part, sources, async ({ facts, other, measure }) => {
      if (facts !== null) known.set(slice, facts);
      if (facts !== null && isUnreached(facts)) return this.#failUnreached(stripes, facts);
      for (; stripes.held !== null; await stripes.next()) {
        const job = stripes.held;
        const places = placesOf(job.stripe, part.items);
        study.expectKeys(job.stripe, places);
        const { shown, told } = this.#shownOf(study, job, places);
        const items: Item[] = [];
        for (const place of places) {
          context.signal.throwIfAborted();
          const item = await measure(place, told);
          killPoint("worker-item");
          items.push(item);
          told.moveTo(items.length);
        }
        shown.done();
        await this.#finish(study, job, { facts, worst: null, other, cells: [], items });
      }
    });
    phase.done();
  }

  async #failUnreached(stripes: Stripes, facts: SliceFacts): Promise<void> {
    await stripes.held?.fail(`worker ${this.#self.name}: ${unreachedText(facts)}. ${MEND_UNREACHED}`);
    stripes.held = null;
  }

  #asked(
    study: OpenStudy,
    job: HeldJob,
    all: readonly PointPlace[],
    of: Pick<ResultBody, "facts" | "worst">,
  ): AskedPoints {
    const cells = placesOf(job.stripe, all);
    study.expectKeys(job.stripe, cells);
    const { shown, told } = this.#shownOf(study, job, cells);
    const done: ResultBody["cells"] = [];
    return {
      cells,
      phase: told,
      take: (record, conversations) => {
        killPoint("worker-cell");
        done.push({ record, conversations });
      },
      finish: async () => {
        shown.done();
        await this.#finish(study, job, { ...of, other: null, cells: done, items: [] });
      },
    };
  }

  /** A job's progress: shown here, and told to the one that hands out as well. */
  #shownOf(study: OpenStudy, job: HeldJob, cells: readonly PointPlace[]): { shown: Phase; told: Phase } {
    const { step } = study.announcement;
    const name = `step ${step}, ${partText(job.stripe.part)}, from (${cells[0].i}, ${cells[0].j})`;
    const shown = this.#options.machine.progress.phase(name, cells.length, "cells");
    return { shown, told: this.#toldTo(job, shown, cells.length) };
  }

  async #finish(study: OpenStudy, job: HeldJob, found: Omit<ResultBody, "reference">): Promise<void> {
    const seconds = (performance.now() - job.startMs) / 1000;
    const head = { worker: this.#self, plan: this.#options.machine.plan, seconds };
    await this.#handIn(job, packResult(head, { reference: study.reference.set, ...found }));
    this.#measured += found.cells.length + found.items.length;
  }

  async #handIn(job: HeldJob, result: StripeResult): Promise<void> {
    const problem = await job.complete(result);
    if (problem === null) return;
    this.#options.machine.progress.line(
      `The server does not take a result (${problem}): the lock was lost, or the server's memory. Another worker measures the cells, or ` +
        "this one hands the result in when it is asked again.",
    );
    this.#spare.set(job.id, result);
    for (const [oldest] of this.#spare) if (this.#spare.size > mostSpare) this.#spare.delete(oldest);
  }

  /** Shows progress here, and tells it to the one that hands out. */
  #toldTo(job: HeldJob, shown: Phase, total: number): Phase {
    const worker = this.#self;
    const tell = (value: number): void => job.progress({ worker, share: Math.min(1, Math.max(0, value / total)) });
    tell(0);
    return {
      ...shown,
      moveTo(value, note) {
        shown.moveTo(value, note);
        tell(value);
      },
    };
  }

  async #nextWithin(worker: Worker, ms: number): Promise<HeldJob | null> {
    const { signal } = this.#options.machine;
    const end = performance.now() + ms;
    for (;;) {
      const job = await this.#next(worker);
      if (job !== null || performance.now() > end) return job;
      await setTimeout(askEveryMs, undefined, { signal });
    }
  }

  /** The next job that this worker measures; null if there is none now. */
  async #next(worker: Worker): Promise<HeldJob | null> {
    const { lockMs, machine } = this.#options;
    for (;;) {
      machine.signal.throwIfAborted();
      const token = randomUUID();
      const job = await worker.getNextJob(token, { block: false });
      if (job === undefined || job === null) return null;
      const stripe = stripeOf(job.data);
      const spare = this.#spare.get(String(job.id));
      if (stripe === null) await job.moveToFailed(new Error("its data are no stripe of cells"), token, false);
      else if (stripe.notBy === this.#self.id) {
        await new HeldJob(job, stripe, token, lockMs).putOff(1000);
        return null;
      } else if (spare !== undefined) {
        this.#spare.delete(String(job.id));
        await this.#handIn(new HeldJob(job, stripe, token, lockMs), spare);
      } else return new HeldJob(job, stripe, token, lockMs);
    }
  }
}

function stripeOf(data: unknown): Stripe | null {
  const result = stripeSchema.safeParse(data);
  return result.success ? result.data : null;
}
