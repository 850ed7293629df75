// The queue's server, through BullMQ (https://docs.bullmq.io), which keeps jobs, locks and results in Valkey or Redis. BullMQ is
// loaded only here, when a command is given --queue.
import { setTimeout } from "node:timers/promises";
import type { Queue, Worker } from "bullmq";
import { asError, UserError } from "../../engine/host/index.ts";
import { queueAddress } from "./address.ts";

/** How often a job may be taken from a worker that died or froze before it counts as one that kills workers. */
const mostStalls = 25;
/**
 * How often it is looked for jobs whose lock was not renewed, milliseconds. All processes have the same interval: whoever looks keeps
 * the others from looking for so long.
 */
const lookEveryMs = 2500;
/** Before all keys on the server. */
const prefix = "foothold";
/**
 * BullMQ keeps results in a list of events too, which nobody reads here: it is kept short (the server cuts it at about this
 * length), because a result has megabytes.
 */
const events = { maxLen: 1 };

export interface QueueServer {
  /** The address without its password. */
  readonly shown: string;
  queue(name: string): Queue;
  /** Takes jobs of a queue one by one. @param lockMs  a job whose lock was not renewed for so long goes to another worker */
  worker(name: string, lockMs: number): Worker;
  /** Called when a command was answered. */
  answered(): void;
  /** As `work`; but when the signal is aborted while the server is away, it throws the reason at once. */
  orStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T>;
  close(): Promise<void>;
}

/**
 * Connects to the server.
 * @param say  told once when the connection is lost, and once when it is back (`answered`); commands wait meanwhile
 * @throws UserError when BullMQ is not installed, or the server cannot be reached or refuses
 */
export async function openServer(text: string, say: (line: string) => void): Promise<QueueServer> {
  const { shown, ...address } = queueAddress(text);
  const { bullmq, Redis } = await loadLibraries();
  await expectServer(new Redis({ ...address, lazyConnect: true, retryStrategy: () => null }), shown);
  // Commands wait for the server however long it is away.
  const connection = {
    ...address,
    maxRetriesPerRequest: null,
    retryStrategy: (times: number) => Math.min(100 * times, 2000),
  };
  let isAway = false;
  const failed = (error: Error): void => {
    if (!isConnectionError(error)) say(`Queue ${shown}: ${error.message}`);
    else if (!isAway) {
      isAway = true;
      say(`The queue's server at ${shown} cannot be reached (${reasonOf(error)}). Waiting until it is back.`);
    }
  };
  const closing: (() => Promise<void>)[] = [];
  return {
    shown,
    queue(name) {
      const queue = new bullmq.Queue(name, { connection, prefix, streams: { events } });
      queue.on("error", failed);
      closing.push(() => queue.close());
      return queue;
    },
    worker(name, lockMs) {
      const worker = new bullmq.Worker(name, null, {
        ...{ connection, prefix, autorun: false, lockDuration: lockMs, maxStalledCount: mostStalls },
        stalledInterval: lookEveryMs,
      });
      worker.on("error", failed);
      closing.push(() => worker.close(true));
      return worker;
    },
    answered() {
      if (isAway) say(`The queue's server at ${shown} is back.`);
      isAway = false;
    },
    async orStopped(work, signal) {
      let looking: NodeJS.Timeout | undefined;
      const stopped = new Promise<never>((_, reject) => {
        looking = setInterval(() => {
          if (isAway && signal.aborted) reject(signal.reason);
        }, 200);
      });
      try {
        return await Promise.race([work, stopped]);
      } finally {
        clearInterval(looking);
      }
    },
    async close() {
      const closed = Promise.all(closing.map((close) => close().catch(() => {})));
      // A server that is away answers no farewell.
      await Promise.race([closed, setTimeout(isAway ? 100 : 5000, undefined, { ref: false })]);
    },
  };
}

async function loadLibraries() {
  try {
    const [bullmq, { Redis }] = await Promise.all([import("bullmq"), import("ioredis")]);
    return { bullmq, Redis };
  } catch (thrown) {
    throw new UserError(
      "--queue needs the packages bullmq and ioredis, which npm leaves out with --omit=optional. Install them: npm install bullmq " +
        `ioredis (${asError(thrown).message.split("\n")[0]})`,
    );
  }
}

/** The part of a client that the first contact needs. */
interface Client {
  on(event: "error", listener: (error: Error) => void): unknown;
  connect(): Promise<void>;
  ping(): Promise<string>;
  disconnect(): void;
}

async function expectServer(client: Client, shown: string): Promise<void> {
  let last: Error | null = null;
  client.on("error", (error) => {
    last = error;
  });
  try {
    await client.connect();
    await client.ping();
  } catch (thrown) {
    const error = last ?? asError(thrown);
    const isRefused = /NOAUTH|WRONGPASS|NOPERM|invalid (username|password)/i.test(error.message);
    throw new UserError(
      isRefused
        ? `queue: the server at ${shown} refuses: ${error.message.split("\n")[0]} Give user and password in the address.`
        : `queue: expected a Valkey or Redis server at ${shown}, it cannot be reached (${reasonOf(error)}). Start one ` +
            "(valkey-server, redis-server), or correct the address.",
    );
  } finally {
    client.disconnect();
  }
}

const isConnectionError = (error: Error): boolean =>
  /ECONN|ETIMEDOUT|EPIPE|ENOTFOUND|EHOSTUNREACH|EAI_AGAIN|Connection is closed|LOADING|Stream isn't writeable/.test(
    `${"code" in error ? error.code : ""} ${error.message}`,
  );

function reasonOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : error.message.split("\n")[0];
}
