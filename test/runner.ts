// Runs test files in one process: one device, one set of pipelines. Prints the adapter, the duration of each file, the
// slowest tests and every skip, and compares the skips with those that test/skips.json expects.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openAdapter } from "../engine/backends/webgpu/adapter.ts";
import { asError } from "../engine/host/errors.ts";
import { importsOf } from "./floor-plan.ts";
import { beginFile, describe, runSuites, skipRecords, suites, testRecords } from "./support.ts";

const folder = fileURLToPath(new URL(".", import.meta.url));
const root = join(folder, "..");

/** Test files with this ending, as paths below test/, in alphabetic order; those whose path contains one of the texts, if any. */
export function findTestFiles(ending: string, texts: readonly string[] = []): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(ending) && !file.includes("node_modules") && !file.startsWith("fixtures"))
    .filter((file) => texts.length === 0 || texts.some((text) => file.includes(text)))
    .sort();
}

/** Files that every test imports: a mention in them says nothing about a particular test. */
const commonFiles = ["test/support.ts", "test/fixture-tensors.ts"];

/** The test files that contain the pattern, themselves or in a file of test/ that they import. */
export function filesUsing(pattern: RegExp, files: readonly string[]): string[] {
  const next = new Map<string, string[]>();
  const { files: known, imports } = importsOf(root);
  // A program in a text may name files of its own.
  for (const { from, to } of imports)
    if (known.includes(to) && to.startsWith("test/") && !commonFiles.includes(to))
      next.set(from, [...(next.get(from) ?? []), to]);
  const uses = (file: string): boolean =>
    pattern.test(readFileSync(join(root, file), "utf8")) || (next.get(file) ?? []).some(uses);
  return files.filter((file) => uses(`test/${file}`));
}

/** The files among these that neither open an adapter (Dawn's null backend is none) nor start a process (a browser is one). */
export function unitTests(files: readonly string[]): string[] {
  const others = filesUsing(
    /\bopenBackend\b|\bopenAdapter\((?!\{ adapter: "null" \})|"node:child_process"|"playwright-core"/,
    files,
  );
  return files.filter((file) => !others.includes(file));
}

/** Prints the adapter of the tests. @returns the adapter's label, "none" if there is no adapter */
export async function announceAdapter(): Promise<string> {
  const { opened, trouble } = await openAdapter().catch((thrown: unknown) => ({
    opened: null,
    trouble: asError(thrown).message,
  }));
  if (opened === null) {
    console.log(`Adapter: none: ${trouble}`);
    return "none";
  }
  const { label, name, driver } = opened.info;
  console.log(`Adapter: ${label}: ${name}, ${driver}`);
  return label;
}

export interface Outcome {
  passed: number;
  failed: number;
}

/** Runs the files; prints each test, then the slowest tests and files. A file that cannot be loaded is a failed test. */
export async function runTestFiles(files: readonly string[]): Promise<Outcome> {
  const fileTimes: { file: string; elapsedMs: number }[] = [];
  for (const file of files) {
    beginFile(file);
    const loading = performance.now();
    let running = 0;
    let loadedMs = 0;
    const group = globalThis.UVU_QUEUE[globalThis.UVU_QUEUE.length - 1];
    group.push(async () => {
      running = performance.now();
      return nothing;
    });
    try {
      await import(join(folder, file));
    } catch (thrown) {
      describe(file, (test) =>
        test("is loaded", () => {
          throw thrown;
        }),
      );
    }
    loadedMs = performance.now() - loading;
    group.push(async () => {
      const elapsedMs = loadedMs + performance.now() - running;
      fileTimes.push({ file, elapsedMs });
      console.log(`  ${seconds(elapsedMs)}`);
      return nothing;
    });
  }
  const outcome = await runSuites();
  console.log("Ten slowest tests:");
  for (const { suite, name, elapsedMs } of slowest(testRecords))
    console.log(`  ${seconds(elapsedMs)}  ${suite}: ${name}`);
  console.log("Ten slowest files:");
  for (const { file, elapsedMs } of slowest(fileTimes)) console.log(`  ${seconds(elapsedMs)}  ${file}`);
  return outcome;
}

/** The value by which uvu recognises a suite without tests. */
const nothing = [true, 0, 0, 0];

function slowest<T extends { elapsedMs: number }>(records: readonly T[]): T[] {
  return [...records].sort((a, b) => b.elapsedMs - a.elapsedMs).slice(0, 10);
}

function seconds(elapsedMs: number): string {
  return `${(elapsedMs / 1000).toFixed(1).padStart(7)} s`;
}

/**
 * Expected skips, as "suite: test". Per kind of adapter: those that must occur on it and on no other. Under `machine`:
 * those that depend on something else (who runs the tests, what is installed) and may occur anywhere.
 */
export type ExpectedSkips = Readonly<Record<string, readonly string[]>>;

/** Deviations from the expected skips, one line each. Entries of suites that did not run are ignored. */
export function unexpectedSkips(
  kind: string,
  expected: ExpectedSkips,
  skipped: readonly string[],
  ranSuites: readonly string[],
): string[] {
  const due = expected[kind] ?? [];
  const mayBe = [...due, ...(expected["machine"] ?? [])];
  const mend = `in test/skips.json`;
  return [
    ...skipped
      .filter((skip) => !mayBe.includes(skip))
      .map((skip) => `"${skip}" was skipped. If it has to be, add it to "${kind}" ${mend}.`),
    ...due
      .filter((skip) => !skipped.includes(skip) && ranSuites.some((suite) => skip.startsWith(`${suite}: `)))
      .map((skip) => `"${skip}" was not skipped. Take it out of "${kind}" ${mend}.`),
  ];
}

/** Prints every skip with its reason, and every unexpected one. @returns the number of unexpected skips */
export function reportSkips(kind: string): number {
  if (skipRecords.length > 0) console.log("Skipped:");
  for (const { suite, name, reason } of skipRecords) console.log(`  ${suite}: ${name}: ${reason}`);
  const expected: ExpectedSkips = JSON.parse(readFileSync(join(folder, "skips.json"), "utf8"));
  const skipped = skipRecords.map(({ suite, name }) => `${suite}: ${name}`);
  const problems = unexpectedSkips(kind, expected, skipped, suites);
  for (const problem of problems) console.log(`FAIL ${problem}`);
  return problems.length;
}
