// A job that this worker holds. Its lock is renewed beside the measurement. A worker that is frozen for longer than the lock loses
// the job to another one; then what it hands in is refused by the server, and the other one's result counts.
import type { Job } from "bullmq";
import type { Stripe, StripeProgress, StripeResult } from "./messages.ts";

/** Least time between two messages of progress, milliseconds. */
const progressEveryMs = 1000;

export class HeldJob {
  readonly id: string;
  readonly stripe: Stripe;
  readonly startMs = performance.now();
  readonly #job: Job;
  readonly #token: string;
  readonly #renewing: NodeJS.Timeout;
  #progressMs = 0;

  /** @param token  of this worker's lock on the job */
  constructor(job: Job, stripe: Stripe, token: string, lockMs: number) {
    this.id = String(job.id);
    this.stripe = stripe;
    this.#job = job;
    this.#token = token;
    // A renewal that fails changes nothing here: handing in tells whose the job is.
    this.#renewing = setInterval(() => void job.extendLock(token, lockMs).catch(() => {}), lockMs / 4);
  }

  progress(progress: StripeProgress): void {
    if (performance.now() - this.#progressMs < progressEveryMs) return;
    this.#progressMs = performance.now();
    void this.#job.updateProgress(progress).catch(() => {});
  }

  /** @returns null, or why the server does not take the result */
  async complete(result: StripeResult): Promise<string | null> {
    return this.#end(() => this.#job.moveToCompleted(result, this.#token, false));
  }

  /** Another worker may try; after several failures nobody does. */
  async fail(reason: string): Promise<void> {
    await this.#end(() => this.#job.moveToFailed(new Error(reason), this.#token, false));
  }

  /** Puts it back at the front of the queue. */
  async giveBack(): Promise<void> {
    await this.#end(() => this.#job.moveToWait(this.#token));
  }

  /** Puts it back for a while. */
  async putOff(ms: number): Promise<void> {
    await this.#end(() => this.#job.moveToDelayed(Date.now() + ms, this.#token));
  }

  async #end(move: () => Promise<unknown>): Promise<string | null> {
    clearInterval(this.#renewing);
    try {
      await move();
      return null;
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : String(thrown);
    }
  }
}
