// Compares foothold's kernels with those of other JavaScript libraries: the same numbers on the same adapter in the
// same run, in alternating turns. The libraries are not dependencies of foothold; install them once, beside this file
// (362 MB):
//
//   npm ci --ignore-scripts --prefix bench/peers
//   node bench/peers/run.ts [TEXT …] [--adapter lavapipe] [--json FILE]        only tasks whose name contains each TEXT
//
// Every library runs in its own process. It does a task once, and its values are checked against float64. Then several
// rounds follow: foothold, a peer, foothold, the next peer, so that each peer is compared with foothold's turn just
// before. A turn lasts --turnMs or one run, whichever is longer. An operation that the GPU refuses is an error and ends
// the task for that library.
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { AdapterError } from "../../engine/errors.ts";
import { SettingsError } from "../../engine/host/errors.ts";
import { boolean, defineSettings, integer, runCommand, text, writeAtomic } from "../../engine/host/index.ts";
import { openBackend } from "../../engine/open.ts";
import { circumstances } from "../circumstances.ts";
import { measureCeilings } from "../measure-ceilings.ts";
import { type ContestantName, contestantNames } from "./contestant.ts";
import { expectInstalled } from "./installed.ts";
import { type Comparison, type PeerTiming, tableLines, timingOf } from "./table.ts";
import { flopsOf, type Task, tasks } from "./tasks.ts";
import type { Reply, Request, Times } from "./worker.ts";

const settings = defineSettings({
  json: text({ default: "", meaning: "also write the results to this file" }),
  adapter: text({
    default: "auto",
    meaning: "which adapter: auto, hardware, lavapipe, swiftshader, or a part of its name",
  }),
  rounds: integer({ default: 7, min: 1, meaning: "turns of each library per task" }),
  turnMs: integer({ default: 500, min: 1, unit: "ms", meaning: "shortest duration of a turn" }),
  ceilings: boolean({ default: true, meaning: "measure the ceilings first, for the shares" }),
});

/** One library in its process. */
class Worker {
  readonly name: ContestantName;
  readonly #process: ChildProcess;

  constructor(name: ContestantName) {
    this.name = name;
    this.#process = fork(fileURLToPath(new URL("./worker.ts", import.meta.url)), [name]);
  }

  async ask(request: Request): Promise<Times | null> {
    const reply = await new Promise<Reply>((resolve) => {
      const ended = (code: number | null): void => resolve({ error: `${this.name}: its process ended with ${code}` });
      this.#process.once("exit", ended);
      this.#process.once("message", (message: Reply) => {
        this.#process.off("exit", ended);
        resolve(message);
      });
      this.#process.send(request);
    });
    if ("error" in reply) throw new Error(`${this.name}: ${reply.error}`);
    return reply.times;
  }

  end(): void {
    this.#process.kill();
  }
}

interface Racer {
  worker: Worker;
  firstMs: number;
  runsPerTurn: number;
  rounds: Times[];
}

/** @returns null if the library has no such operation */
async function enter(name: ContestantName, task: Task, adapter: string, turnMs: number): Promise<Racer | null> {
  const worker = new Worker(name);
  try {
    const first = await worker.ask({ prepare: task, adapter });
    const once = first === null ? null : await worker.ask({ run: 1 });
    if (first === null || once === null) {
      worker.end();
      return null;
    }
    return { worker, firstMs: first.ms, runsPerTurn: Math.max(1, Math.round(turnMs / once.ms)), rounds: [] };
  } catch (thrown) {
    worker.end();
    throw thrown;
  }
}

async function takeTurn({ worker, runsPerTurn, rounds }: Racer): Promise<void> {
  const times = await worker.ask({ run: runsPerTurn });
  if (times === null) throw new Error(`${worker.name}: it gave no times for its turn`);
  rounds.push({ ms: times.ms / runsPerTurn, processorMs: times.processorMs / runsPerTurn });
}

async function compare(
  task: Task,
  adapter: string,
  { rounds, turnMs }: { rounds: number; turnMs: number },
  say: (line: string) => void,
): Promise<Comparison> {
  const flops = flopsOf(task);
  const ours = await enter("foothold", task, adapter, turnMs);
  if (ours === null) throw new Error(`${task.name}: foothold has no such operation`);
  const racers: Racer[] = [];
  try {
    for (const name of contestantNames.slice(1)) {
      // One library's failure is a result; the others still run.
      const racer = await enter(name, task, adapter, turnMs).catch((thrown: Error) => say(`  ${thrown.message}`));
      if (racer) racers.push(racer);
    }
    const others: PeerTiming[] = [];
    const allOurs: Times[] = [];
    for (const racer of racers) {
      ours.rounds.length = 0;
      for (let round = 0; round < rounds; round++) {
        await takeTurn(ours);
        await takeTurn(racer);
      }
      allOurs.push(...ours.rounds);
      others.push({ ...timingOf(racer.worker.name, racer.firstMs, racer.rounds), oursBeside: [...ours.rounds] });
    }
    return { task: task.name, flops, ours: timingOf("foothold", ours.firstMs, allOurs), others };
  } finally {
    for (const { worker } of [ours, ...racers]) worker.end();
  }
}

await runCommand({
  name: "node bench/peers/run.ts",
  summary: "Compares kernels with those of jax-js, tfjs and onnxruntime on one adapter, in one run.",
  settings,
  positional: [{ name: "TEXT", meaning: "only tasks whose name contains it", many: true }],
  async main({ values, positionals, signal }) {
    expectInstalled(fileURLToPath(new URL(".", import.meta.url)));
    const wanted = tasks.filter(({ name }) => positionals.every((part) => name.includes(part)));
    if (wanted.length === 0) throw new SettingsError(`no task contains ${positionals.join(" and ")}.`);
    const { backend, adapter: info } = await openBackend({ backend: "webgpu", adapter: values.adapter });
    if (info === null) throw new AdapterError("bench/peers: expected an adapter, got none. Install a Vulkan driver.");
    console.log(backend.description);
    const ceilings = values.ceilings ? await measureCeilings(backend, () => {}) : null;
    backend.destroy();
    if (ceilings !== null)
      console.log(`ceiling: ${ceilings.matmulGflopsPerSecond.toFixed(1)} GFLOP/s (${ceilings.matmulCase})`);
    // The label of the adapter that "auto" chose, so that all libraries use the same one.
    const adapter = info.label === "lavapipe" || info.label === "swiftshader" ? info.label : values.adapter;
    const comparisons: Comparison[] = [];
    for (const [i, line] of tableLines([], ceilings).entries()) if (i < 2) console.log(line);
    for (const task of wanted) {
      if (signal.aborted) break;
      const comparison = await compare(task, adapter, values, console.log);
      comparisons.push(comparison);
      for (const line of tableLines([comparison], ceilings).slice(2)) console.log(line);
    }
    const report = { ...circumstances("bench/peers/run.ts", info), ceilings, comparisons };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
  },
});
