// Workers of a queue for tests.
import { dirname } from "node:path";
import type { Phase, Progress } from "../../../engine/host/index.ts";
import { openBackend } from "../../../engine/index.ts";
import type { Plan } from "../../../landscape/queue/messages.ts";
import { ownPlan } from "../../../landscape/queue/plans.ts";
import { openServer } from "../../../landscape/queue/server.ts";
import { work } from "../../../landscape/queue/worker.ts";
import { smallSweep, warmModel } from "../given-sweep.ts";
import { type Started, start } from "../tiny-study.ts";

const silent: Phase = { advance() {}, moveTo() {}, phase: () => silent, done() {} };

export interface RunningWorker {
  /** What it has said. */
  readonly lines: string[];
  /** Stops it. @returns how many cells it has measured */
  stop(): Promise<number>;
}

/** A worker in this process. */
export async function workIn(
  url: string,
  plan: Partial<Plan> = {},
  shared = [dirname(warmModel)],
): Promise<RunningWorker> {
  const lines: string[] = [];
  const progress: Progress = { phase: () => silent, line: (text) => void lines.push(text), close() {} };
  const server = await openServer(url, (line) => void lines.push(line));
  const { backend } = await openBackend();
  const { batch } = smallSweep({});
  const stopping = new AbortController();
  const { signal } = stopping;
  const machine = { backend, own: null, run: "", shared, batch, pointsAtOnce: 8, progress, signal };
  const working = work({
    ...{ server, name: "worker", lockMs: 60_000, idleMs: 1e9 },
    machine: { ...machine, plan: { ...ownPlan(backend), ...plan } },
  });
  return {
    lines,
    async stop() {
      stopping.abort();
      try {
        return await working;
      } finally {
        backend.destroy();
        await server.close();
      }
    },
  };
}

/** The same as a process of its own, which may be killed. */
export function workerProcess(url: string, environment: NodeJS.ProcessEnv = {}, shared = dirname(warmModel)): Started {
  const flags = ["--lock-seconds", "2", "--idle-seconds", "3", "--shared", shared, "--name", "worker"];
  return start(["landscape/work.ts", "--queue", url, ...flags], environment);
}
