// Refuses a driver that computes wrong numbers when a backend is opened.
import type { Backend } from "../backends/backend.ts";
import { asSentence } from "../backends/webgpu/failures.ts";
import { sayOnce } from "../backends/webgpu/say-once.ts";
import { AdapterError } from "../errors.ts";
import { preferTiles, type TileChoice } from "../ops/matmul/tiles.ts";
import { findWrongResult, type Meant, type WrongResult } from "./check.ts";
import { checkDigest, hasPassed, rememberPass } from "./passed.ts";

/** Drivers that passed in this process. */
const passedHere = new Set<string>();

/** A check that takes longer says what it waits for: a software driver may compile for several seconds. */
const patienceMs = 2000;

/** Set and not empty: no check. */
const skipVariable = "FOOTHOLD_SKIP_CHECK";

/**
 * Checks a driver, once per driver, versions and kernels.
 * @param meant    the backend that will compute; its kernels are checked
 * @param tiles    its products' tiles (preferredTiles)
 * @param openOwn  opens the backend that the check runs on, on a device of its own, so that the caller's memory and
 *                 counts are as if there were no check. It is destroyed afterwards
 * @throws AdapterError if a result is wrong: the work, the element, expected, got, and what to do. OutOfMemoryError if
 *         the device has no memory left for the check
 */
export async function expectSoundDriver(
  meant: Meant,
  tiles: TileChoice,
  openOwn: () => Promise<Backend>,
): Promise<void> {
  if (process.env[skipVariable]) {
    sayOnce(
      `${skipVariable} is set: ${meant.description} was NOT checked. If its driver computes wrong numbers, so does this run.`,
    );
    return;
  }
  const known = JSON.stringify([meant.description, meant.style, meant.abilities, tiles]);
  if (passedHere.has(known)) return;
  const digest = checkDigest(meant, tiles);
  if (!hasPassed(digest)) {
    const timer = setTimeout(
      () => sayOnce(`Checking the driver of ${meant.description}, once: its kernels are compiled first.`),
      patienceMs,
    );
    const wrong = await wrongResultOf(openOwn, tiles).finally(() => clearTimeout(timer));
    if (wrong !== null) throw refusal(meant.description, wrong);
    rememberPass(meant.description, digest);
  }
  passedHere.add(known);
}

async function wrongResultOf(openOwn: () => Promise<Backend>, tiles: TileChoice): Promise<WrongResult | null> {
  const own = await openOwn();
  preferTiles(own, tiles);
  return findWrongResult(own).finally(() => own.destroy());
}

/** The refusal of a driver, for people. */
export function refusal(adapter: string, { work, detail }: WrongResult): AdapterError {
  return new AdapterError(
    `adapter: ${adapter} fails the start-up check: ${work}: ${asSentence(detail)} Install another version of its driver, or choose ` +
      `another adapter (--adapter; --backend cpu needs none). ${skipVariable}=1 uses it all the same.`,
  );
}
