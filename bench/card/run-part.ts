// Runs one part in a process of its own, and stops it at its time limit.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { emptyRow } from "./part.ts";
import type { Message, Order, PartReport, Row } from "./results.ts";

export interface PartRun {
  report: PartReport;
  rows: Row[];
}

/** The lines of standard error that a message quotes. */
const quotedLines = 3;
/** What every process says there. */
const isUsual = /FOOTHOLD_SKIP_CHECK|artificially reduced/;

/**
 * @param stopMs   when its process is stopped, ms from now
 * @param receive  each message as it arrives
 * @param wasChecked  whether this run has checked the driver already, so that the process need not
 */
export async function runPartProcess(
  order: Order,
  stopMs: number,
  receive: (message: Message) => void,
  signal: AbortSignal,
  wasChecked: boolean,
): Promise<PartRun> {
  const begun = performance.now();
  const rows: Row[] = [];
  const said: string[] = [];
  let hasEnded = false;
  let wasStopped = false;
  const child = fork(fileURLToPath(new URL("./worker.ts", import.meta.url)), [JSON.stringify(order)], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: wasChecked ? { ...process.env, FOOTHOLD_SKIP_CHECK: "1" } : process.env,
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said.push(...text.split("\n").filter((line) => line.trim() !== "" && !isUsual.test(line)));
    said.splice(0, said.length - quotedLines);
  });
  child.on("message", (message: Message) => {
    if (message.kind === "end") hasEnded = true;
    if (message.kind === "row") rows.push(message.row);
    receive(message);
  });
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop);
  const timer = setTimeout(() => {
    wasStopped = true;
    stop();
  }, stopMs);
  const { code, how } = await new Promise<{ code: number | null; how: string | null }>((resolve) => {
    child.on("error", (error) => resolve({ code: null, how: error.message }));
    child.on("close", (exit, killed) => resolve({ code: exit, how: killed }));
  });
  clearTimeout(timer);
  signal.removeEventListener("abort", stop);
  const seconds = (performance.now() - begun) / 1000;
  const problem = hasEnded ? null : diedOf(wasStopped, seconds, code, how, said);
  if (problem !== null) {
    const row: Row = { ...emptyRow(order.part, "the rest of this part"), outcome: "failed", reason: problem };
    rows.push(row);
    receive({ kind: "row", row });
  }
  const failed = rows.filter(({ outcome }) => outcome === "failed");
  const leftOut = rows.filter(({ outcome }) => outcome === "left out");
  const outcome = failed.length > 0 ? "failed" : leftOut.length > 0 ? "cut" : "done";
  const sentence =
    failed.length > 0
      ? `${failed.length} of ${rows.length} rows failed; the first: ${failed[0].name}: ${failed[0].reason}`
      : leftOut.length > 0
        ? `${leftOut.length} of ${rows.length} rows were left out; the first: ${leftOut[0].name}: ${leftOut[0].reason}`
        : null;
  const limitSeconds = order.limitMs / 1000;
  return { report: { name: order.part, outcome, seconds, limitSeconds, problem: sentence }, rows };
}

function diedOf(
  wasStopped: boolean,
  seconds: number,
  code: number | null,
  how: string | null,
  said: readonly string[],
): string {
  const words = said.length === 0 ? "" : ` It said: ${said.join(" / ")}`;
  if (wasStopped) return `it did not end within ${seconds.toFixed(0)} s and was stopped.${words}`;
  if (code === null) return `its process was ended by ${how}.${words}`;
  return `its process ended with exit code ${code}.${words}`;
}
