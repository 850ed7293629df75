// What every test file uses: `describe` (which never forgets to call uvu's `run`), skips that print their reason,
// the fixture folder, and comparisons that name the worst element.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";

/** What a suite's `test` can do beyond uvu's: skip with a reason that is printed and counted. */
export interface Test {
  (name: string, body: () => unknown): void;
  skip(name: string, reason: string): void;
  after(body: () => unknown): void;
}

export interface TestRecord {
  suite: string;
  name: string;
  elapsedMs: number;
}
export interface SkipRecord {
  suite: string;
  name: string;
  reason: string;
}

/** Filled while tests run; the runner prints the slowest tests and every skip from it. */
export const testRecords: TestRecord[] = [];
export const skipRecords: SkipRecord[] = [];

export function describe(name: string, define: (test: Test) => void): void {
  const inner = suite(name);
  const test: Test = Object.assign(
    (testName: string, body: () => unknown) =>
      inner(testName, async () => {
        const start = performance.now();
        try {
          await body();
        } finally {
          testRecords.push({ suite: name, name: testName, elapsedMs: performance.now() - start });
        }
      }),
    {
      skip: (testName: string, reason: string) => {
        skipRecords.push({ suite: name, name: testName, reason });
        inner.skip(testName);
      },
      after: (body: () => unknown) => {
        inner.after(async () => {
          await body();
        });
      },
    },
  );
  define(test);
  inner.run();
}

/** The folder of known answers: FOOTHOLD_FIXTURES, or test/fixtures. */
export const fixtureFolder: string =
  process.env["FOOTHOLD_FIXTURES"] ?? fileURLToPath(new URL("./fixtures", import.meta.url));

export function fixturePath(name: string): string {
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

/** Worst violation over all elements: difference ÷ allowed difference, and where it is. */
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
    if (share > found.share) found = { share, index: i, difference, allowed };
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

/** `assertClose` against a known answer of the fixtures: of which file, which quantity, on which backend. */
export function assertKnown(
  file: string,
  quantity: string,
  backend: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): void {
  assertClose(`${file}: ${quantity}: ${backend}`, actual, expected, tolerance);
}
