// The helpers of every test file: `describe` (which never forgets to call uvu's `run`), skips that print their reason,
// the fixture folder, and comparisons that name the worst element. A file that is run alone (`node test/….test.ts`) exits by
// itself when its tests are done; test/runner.ts runs many files in one process.
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

declare global {
  var UVU_DEFER: number | undefined;
  var UVU_INDEX: number | undefined;
  var UVU_QUEUE: [string | null, ...(() => Promise<unknown>)[]][];
}

// By default uvu starts one tick after a suite is declared, even in the middle of a file that awaits something between
// suites, and then waits for anything that keeps the process alive, such as a GPU. It reads these globals when it
// loads, so it is imported after them.
globalThis.UVU_DEFER = 1;
globalThis.UVU_QUEUE = [];
const { exec, suite } = await import("uvu");

/** A suite's `test` adds to uvu's: skipping with a reason that is printed and counted. */
export interface Test {
  (name: string, body: () => unknown): void;
  skip(name: string, reason: string): void;
  after(body: () => unknown): void;
}

export interface TestRecord {
  suite: string;
  name: string;
  elapsedMs: number;
  passed: boolean;
}
export interface SkipRecord {
  suite: string;
  name: string;
  reason: string;
}

/** Filled while tests run; the runner prints the slowest tests and every skip from it. */
export const testRecords: TestRecord[] = [];
export const skipRecords: SkipRecord[] = [];
/** Suites in the order in which they were declared. */
export const suites: string[] = [];
let declared = 0;

export function describe(name: string, define: (test: Test) => void): void {
  if (globalThis.UVU_QUEUE.length === 0) runAlone();
  suites.push(name);
  const inner = suite(name);
  const test: Test = Object.assign(
    (testName: string, body: () => unknown) => {
      declared++;
      inner(testName, async () => {
        const start = performance.now();
        let passed = false;
        try {
          await body();
          passed = true;
        } finally {
          testRecords.push({ suite: name, name: testName, elapsedMs: performance.now() - start, passed });
        }
      });
    },
    {
      skip: (testName: string, reason: string) => {
        skipRecords.push({ suite: name, name: testName, reason });
        inner.skip(testName);
      },
      after: (body: () => unknown) => {
        inner.after(async () => {
          try {
            await body();
          } catch (thrown) {
            // uvu would end the whole run here; instead this counts as one failed test.
            declared++;
            console.error(`\n${name}: after: ${thrown instanceof Error ? thrown.stack : thrown}`);
          }
        });
      },
    },
  );
  define(test);
  inner.run();
}

/** Suites declared from now on belong to this file, and the process runs several files (test/runner.ts). */
export function beginFile(file: string): void {
  globalThis.UVU_INDEX = globalThis.UVU_QUEUE.push([file]) - 1;
}

/** Runs all suites declared so far. A test that does not finish counts as failed, whatever the cause. */
export async function runSuites(): Promise<{ passed: number; failed: number }> {
  try {
    await exec();
  } catch (thrown) {
    console.error(thrown);
    declared++;
  }
  const passed = testRecords.filter((record) => record.passed).length;
  return { passed, failed: declared - passed };
}

/** For a file that is run alone: its suites run when the whole file has been evaluated, and then the process ends. */
function runAlone(): void {
  globalThis.UVU_QUEUE.push([null]);
  // Importing the module that is being evaluated waits for its end, including top-level awaits, and does not run it
  // again.
  import(pathToFileURL(realpathSync(process.argv[1])).href).then(
    async () => {
      const { failed } = await runSuites();
      for (const { suite, name, reason } of skipRecords) console.log(`skipped: ${suite}: ${name}: ${reason}`);
      process.exit(failed === 0 ? 0 : 1);
    },
    // Node reports the error that the file threw, and exits.
    () => {},
  );
}

/** The folder of known answers: FOOTHOLD_FIXTURES, or test/fixtures. */
export const fixtureFolder: string =
  process.env["FOOTHOLD_FIXTURES"] ?? fileURLToPath(new URL("./fixtures", import.meta.url));

/** Names of the fixtures that were opened. */
export const usedFixtures = new Set<string>();

export function fixturePath(name: string): string {
  usedFixtures.add(name.split("/")[0]);
  return `${fixtureFolder}/${name}`;
}

/** A JSON fixture. The caller names the type it expects: fixtures are ours, made by test/fixtures/make. */
export function readFixture<T>(name: string): T {
  return JSON.parse(readFileSync(fixturePath(name), "utf8")) as T;
}

export interface Tolerance {
  /** Largest absolute difference allowed. */
  absolute?: number;
  /** Largest difference relative to the expected element. */
  relative?: number;
  /** Largest difference relative to the largest expected magnitude. */
  ofScale?: number;
}

/** Worst violation over all elements: share = difference ÷ allowed difference, and its index (−1: no elements). */
export function worst(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): { share: number; index: number; difference: number; allowed: number } {
  let scale = 0;
  for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i]));
  let found = { share: 0, index: -1, difference: 0, allowed: 0 };
  for (let i = 0; i < expected.length; i++) {
    const allowed =
      (tolerance.absolute ?? 0) + (tolerance.relative ?? 0) * Math.abs(expected[i]) + (tolerance.ofScale ?? 0) * scale;
    const difference =
      Object.is(actual[i], expected[i]) || actual[i] === expected[i] ? 0 : Math.abs(actual[i] - expected[i]);
    const share = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference === 0 ? 0 : difference / allowed;
    if (i === 0 || share > found.share) found = { share, index: i, difference, allowed };
  }
  return found;
}

/** Throws unless every element is within tolerance; the message names the worst one. */
export function assertClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: expected ${expected.length} elements, got ${actual.length}`);
  const { share, index, difference, allowed } = worst(actual, expected, tolerance);
  if (share > 1)
    throw new Error(
      `${what}: element ${index} of ${expected.length}: expected ${expected[index]}, got ${actual[index]}; ` +
        `differs by ${difference.toExponential(2)}, allowed ${allowed.toExponential(2)}`,
    );
}

/** Throws unless `body` throws an error whose message contains each of the texts. */
export async function throwsMessage(body: () => unknown, ...texts: string[]): Promise<Error> {
  let error: unknown;
  try {
    await body();
  } catch (caught) {
    error = caught;
  }
  if (!(error instanceof Error))
    throw new Error(`expected an error containing ${JSON.stringify(texts)}, nothing was thrown`);
  for (const text of texts)
    if (!error.message.includes(text))
      throw new Error(`expected an error containing ${JSON.stringify(text)}, got: ${error.message}`, { cause: error });
  return error;
}

/** One comparison with a known answer: its worst element, as `worst` gives it. */
export interface KnownRecord {
  file: string;
  quantity: string;
  backend: string;
  elements: number;
  difference: number;
  allowed: number;
  share: number;
}

/** Filled by `assertKnown`; `npm run fixtures` prints the worst of each file, quantity and backend. */
export const knownRecords: KnownRecord[] = [];

/**
 * `assertClose` against a known answer of the fixtures, recorded for `npm run fixtures`.
 * @param file      the fixture that holds the answer: "training.json"
 * @param quantity  what is compared; one line of the table for all comparisons of one name
 * @param backend   the backend that computed it: a name of `testBackends`, "plain f64", or "host"
 * @param context   the case, for the message
 */
export function assertKnown(
  file: string,
  quantity: string,
  backend: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  context = "",
): void {
  const { difference, allowed, share } = worst(actual, expected, tolerance);
  knownRecords.push({ file, quantity, backend, elements: expected.length, difference, allowed, share });
  const what = [file, quantity, backend, context].filter((part) => part !== "").join(": ");
  assertClose(what, actual, expected, tolerance);
}
