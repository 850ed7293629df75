// A contestant's process: answers messages of run.ts. Each library has its own process, because onnxruntime includes
// its own copy of Dawn, and so that no library's memory or threads affect another's rounds.
import { asError } from "../../engine/host/errors.ts";
import type { ContestantModule, Prepared } from "./contestant.ts";
import { checkLayer } from "./layer-task.ts";
import { checkAttention, checkMatmul, type Results, type Task } from "./tasks.ts";

export type Request = { prepare: Task; adapter: string } | { run: number };
/**
 * The first run, or all requested runs: wall-clock time, and time on all processors, which other load on the machine
 * disturbs less.
 */
export interface Times {
  ms: number;
  processorMs: number;
}
/** null if the library has no such operation. */
export type Reply = { times: Times | null } | { error: string };

const { open }: ContestantModule = await import(`./contestants/${process.argv[2]}.ts`);
let prepared: Prepared | null = null;

async function answer(request: Request): Promise<Reply> {
  if ("prepare" in request) {
    prepared = await (await open(request.adapter)).prepare(request.prepare);
    if (prepared === null) return { times: null };
    const times = await timed(prepared, 1);
    await check(request.prepare, await prepared.results());
    return { times };
  }
  if (prepared === null) throw new Error("worker: nothing was prepared");
  return { times: await timed(prepared, request.run) };
}

async function timed(work: Prepared, count: number): Promise<Times> {
  const [start, before] = [performance.now(), process.cpuUsage()];
  await work.run(count);
  const used = process.cpuUsage(before);
  return { ms: performance.now() - start, processorMs: (used.user + used.system) / 1000 };
}

async function check(task: Task, results: Results): Promise<void> {
  switch (task.kind) {
    case "matmul":
      return checkMatmul(task, results);
    case "attention":
      return checkAttention(task, results);
    case "layer":
      return checkLayer(task, results);
    default:
      return task satisfies never;
  }
}

process.on("message", (request: Request) => {
  answer(request)
    .catch((thrown: unknown): Reply => ({ error: asError(thrown).stack ?? String(thrown) }))
    .then((reply) => process.send?.(reply));
});
// run.ts has ended.
process.on("disconnect", () => process.exit(0));
