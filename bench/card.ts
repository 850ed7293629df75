// What a card can do, in one command and at most eight minutes: start-up check, ceilings, products, attention, head,
// AdamW, decoding, training and a grid point, beside PyTorch if Python has it. One table, and a JSON file.
//
//   node bench/card.ts --out card.json [--only PART] [--sizes small|full] [--minutes N] [--dry-run]
//
// Every part runs in a process of its own (card/worker.ts), so that a driver that crashes or hangs ends one part. Every
// timed result is compared with float64 at some elements; a wrong one is a failure, not a number. Exit code 1 if a part
// failed.
import { cpus } from "node:os";
import { openAdapter } from "../engine/backends/webgpu/adapter.ts";
import { asError, UserError } from "../engine/host/errors.ts";
import {
  backendSettings,
  boolean,
  choice,
  defineSettings,
  expectFilePlace,
  number,
  runCommand,
  text,
  texts,
  writeAtomic,
} from "../engine/host/index.ts";
import { parts } from "./card/parts.ts";
import { type PeerCase, runPeers } from "./card/peers.ts";
import { ceilingsOf, duration, rated, rateText, tableLines } from "./card/rated.ts";
import {
  type CardAdapter,
  type CardReport,
  type Fault,
  faults,
  type Message,
  type PartName,
  type PartReport,
  partNames,
  type Row,
} from "./card/results.ts";
import { runPartProcess } from "./card/run-part.ts";
import { sizesOf } from "./card/sizes.ts";
import { circumstances } from "./circumstances.ts";

const settings = defineSettings(
  {
    out: text({ default: "", meaning: "also write the results to this JSON file" }),
    only: texts({ default: [], meaning: `parts to run, in their usual order: ${partNames.join(", ")}; none: all` }),
    sizes: choice({
      default: "auto",
      options: ["auto", "small", "full"],
      meaning: "full: Qwen2.5-0.5B, for a GPU; small: tiny shapes; auto: small on a software driver",
    }),
    minutes: number({
      default: 0,
      min: 0,
      max: 60,
      unit: "minutes",
      meaning: "time for all parts together; 0: 8 for full sizes, 1 for small ones",
    }),
    "dry-run": boolean({ default: false, meaning: "print the parts, their time and their cases, and run nothing" }),
    ...backendSettings,
  },
  ({ only, backend }) => [
    ...only
      .filter((name) => !isPart(name))
      .map((name) => `only: expected parts (${partNames.join(", ")}), got ${JSON.stringify(name)}`),
    ...(backend === "cpu" ? ['backend: expected an adapter to measure, got "cpu"'] : []),
  ],
);

const isPart = (name: string): name is PartName => partNames.some((one) => one === name);

/** The share of the time that parts may plan with; the rest is for their starts and for last cases. */
const planned = 0.9;

/** A part's last case was begun within the part's time, and its process has to start: so it is stopped this much later. */
const graceMs = 15_000;
/** With less time left a part is not begun. */
const leastPartMs = 1500;

/** FOOTHOLD_CARD_FAULT=PART:wrong, crash or hang: the fault that a test plants. */
function plantedFault(): { part: PartName; fault: Fault } | null {
  const given = process.env["FOOTHOLD_CARD_FAULT"];
  if (!given) return null;
  const [part, wanted] = given.split(":");
  const fault = faults.find((one) => one === wanted);
  if (fault === undefined || !isPart(part) || part === "peers")
    throw new UserError(
      `FOOTHOLD_CARD_FAULT: expected PART:FAULT with a fault of ${faults.join(", ")}, got "${given}". Unset it to measure.`,
    );
  return { part, fault };
}

function rowLine(row: Row): string {
  const { part, name, milliseconds, reason } = row;
  if (milliseconds === null)
    return `${part}: ${name}: ${row.outcome === "failed" ? "FAILED: " : "left out: "}${reason}`;
  const [withRates] = rated([row], { copy: null, f32: null, f16: null }, new Map());
  return `${part}: ${name}: ${duration(milliseconds)}  ${rateText(withRates)}`;
}

await runCommand({
  name: "node bench/card.ts",
  summary: "Measures a GPU in at most eight minutes: is it right, how fast is it, and how near its own ceilings.",
  settings,
  examples: [
    ["node bench/card.ts --out card.json", "everything; the table on standard output"],
    ["node bench/card.ts --only products,attention", "two parts"],
    ["node bench/card.ts --sizes small --adapter lavapipe", "a rehearsal on a software driver"],
    ["node bench/card.ts --dry-run --sizes full", "what would be measured"],
  ],
  async main({ values, progress, signal }) {
    const begun = performance.now();
    const wanted = partNames.filter((name) => values.only.length === 0 || values.only.includes(name));
    // A dry run needs no GPU; a run does, and says so before anything else.
    const sizes = values.sizes !== "auto" ? values.sizes : await usualSizes(values.adapter, values["dry-run"]);
    const minutes = values.minutes > 0 ? values.minutes : sizes === "full" ? 8 : 1;
    if (values["dry-run"]) {
      for (const line of plan(wanted, sizes, minutes)) console.log(line);
      return;
    }
    if (values.out !== "") expectFilePlace(values.out); // minutes of measuring would be lost
    const end = begun + 60_000 * minutes;
    const fault = plantedFault();
    const rows: Row[] = [];
    const reports: PartReport[] = [];
    let adapter: CardAdapter | null = null;
    let isSoftware = sizes === "small";
    let milliseconds: ReadonlyMap<string, number> = new Map();
    let peers: string | null = null;
    const receive = (message: Message): void => {
      if (message.kind === "row") progress.line(rowLine(message.row));
      if (message.kind !== "adapter") return;
      adapter = message.adapter;
      isSoftware = message.isSoftware;
      progress.line(message.line);
    };
    const reportNow = (isWhole: boolean): CardReport => {
      const ceilings = ceilingsOf(rows);
      const { command, date, node, commit } = circumstances("bench/card.ts", null);
      return {
        schemaVersion: 1,
        ...{ command, date, node, commit, processors: cpus().length, sizes, minutes },
        ...{ totalSeconds: (performance.now() - begun) / 1000, isWhole },
        ...{ adapter, ceilings, parts: reports, rows: rated(rows, ceilings, milliseconds), peers },
      };
    };
    const write = (report: CardReport): void => {
      if (values.out !== "") writeAtomic(values.out, `${JSON.stringify(report, null, 2)}\n`);
    };
    for (const [i, part] of wanted.entries()) {
      if (signal.aborted) break;
      const weights = wanted.slice(i).reduce((sum, name) => sum + parts[name].weight, 0);
      const left = end - performance.now();
      const limitMs = Math.max(0, (planned * left * parts[part].weight) / weights);
      if (left < leastPartMs) {
        const problem = `left out: ${Math.max(0, left / 1000).toFixed(1)} s of ${minutes} minutes are left`;
        reports.push({ name: part, outcome: "cut", seconds: 0, limitSeconds: limitMs / 1000, problem });
        progress.line(`${part}: ${problem}`);
        continue;
      }
      progress.line(`${part}: ${parts[part].meaning} (${(limitMs / 1000).toFixed(0)} s)`);
      if (part === "peers") {
        const run = await runPeers(
          peerCases(sizes),
          limitMs,
          isSoftware,
          (line) => progress.line(`peers: ${line}`),
          signal,
        );
        [peers, milliseconds] = [run.description, run.milliseconds];
        reports.push(run.report);
      } else {
        const { adapter: name, backend, tune } = values;
        const planted = fault?.part === part ? fault.fault : null;
        const stopMs = Math.min(1.25 * limitMs + graceMs, left);
        const order = { part, sizes, adapter: name, backend, tune, limitMs, fault: planted };
        const run = await runPartProcess(order, stopMs, receive, signal, wanted.includes("check") && part !== "check");
        reports.push(run.report);
        rows.push(...run.rows);
      }
      write(reportNow(false)); // If this process is ended too, the parts so far are there.
    }
    const report = reportNow(!signal.aborted);
    for (const line of summary(report)) console.log(line);
    write(report);
    if (reports.some(({ outcome }) => outcome === "failed")) await leave(1);
  },
});

/** Ends the process once everything is printed. */
async function leave(code: number): Promise<never> {
  await new Promise<void>((resolve) => void process.stdout.write("", () => resolve()));
  process.exit(code);
}

async function usualSizes(adapter: string, isDry: boolean): Promise<"small" | "full"> {
  try {
    const { opened } = await openAdapter({ adapter });
    return opened?.info.computesOn === "gpu" ? "full" : "small";
  } catch (thrown) {
    if (!isDry) throw thrown;
    process.stderr.write(`${asError(thrown).message} The plan is that of a GPU.\n`);
    return "full";
  }
}

function peerCases(sizes: "small" | "full"): PeerCase[] {
  return partNames.flatMap((name) =>
    (parts[name].cases?.(sizesOf[sizes]).cases ?? []).flatMap(({ name: row, peer }) =>
      peer === undefined || name === "ceilings" ? [] : [{ name: row, work: peer }],
    ),
  );
}

function* plan(wanted: readonly PartName[], sizes: "small" | "full", minutes: number): Generator<string> {
  yield `${wanted.length} parts, sizes ${sizes}, at most ${minutes} minutes:`;
  const weights = wanted.reduce((sum, name) => sum + parts[name].weight, 0);
  for (const name of wanted) {
    const { meaning, weight, cases } = parts[name];
    yield `${name}: ${meaning}; about ${((60 * planned * minutes * weight) / weights).toFixed(0)} s`;
    for (const one of cases?.(sizesOf[sizes]).cases ?? []) yield `  ${one.name}`;
  }
}

function* summary(report: CardReport): Generator<string> {
  const { adapter, ceilings, parts: reports, totalSeconds, minutes, sizes, peers } = report;
  if (adapter !== null) {
    yield `${adapter.name}, ${adapter.driver} (${adapter.label}, ${adapter.api})`;
    yield `features: ${adapter.features.join(", ")}`;
    yield `subgroups: ${adapter.subgroups}; matrix shapes: ${adapter.matrixShapes.join(", ") || "none"}`;
  }
  const ceiling = (name: string, one: CardReport["ceilings"]["copy"], unit: string): string =>
    one === null ? `${name} not measured` : `${name} ${one.rate.toFixed(one.rate < 100 ? 1 : 0)} ${unit} (${one.of})`;
  yield `ceilings: ${[
    ceiling("copy", ceilings.copy, "GB/s"),
    ceiling("f32 products", ceilings.f32, "GFLOP/s"),
    ceiling("f16 products", ceilings.f16, "GFLOP/s"),
  ].join("; ")}`;
  if (peers !== null) yield `beside: ${peers}`;
  yield "";
  yield* tableLines(report);
  yield "";
  for (const { name, outcome, problem } of reports)
    if (outcome !== "done") yield `${name}: ${outcome === "failed" ? "FAILED" : outcome}: ${problem}`;
  const failed = reports.filter(({ outcome }) => outcome === "failed").map(({ name }) => name);
  const verdict = failed.length === 0 ? "no part failed" : `failed: ${failed.join(", ")}`;
  const whole = report.isWhole ? "" : "; stopped before its end";
  yield `${verdict}; ${totalSeconds.toFixed(0)} s of ${60 * minutes} s, sizes ${sizes}${whole}`;
}
