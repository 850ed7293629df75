// Catches text that native code prints on standard error.
//
// Drivers and Dawn write remarks straight to file descriptor 2 ("maxDynamicUniformBuffersPerPipelineLayout artificially
// reduced …"). process.stderr cannot intercept them, and there is no option to turn them off. So for one synchronous
// call the descriptor is pointed at a temporary file: the number of a closed descriptor is the next to be assigned.
// Node has no dup(), so the old target is restored by opening it again through /proc/self/fd. That gives the same
// stream for a terminal, a pipe and a file opened for appending (nohup, 2>>log). It would give another position in any
// other file, and fail for a socket: these are left alone, and the remarks appear there.
import { closeSync, constants, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";

/**
 * Runs `body` and returns its value, with the text that native code printed on standard error during the call. The text
 * is empty if it could not be caught. No JavaScript but `body` runs during the call, since it is synchronous.
 */
export function captureNativeStderr<T>(body: () => T): { value: T; text: string } {
  const folder = canCapture() ? temporaryFolder() : null;
  if (folder === null) return { value: body(), text: "" };
  const file = join(folder, "stderr");
  try {
    // Opened for reading too: opening a pipe only for writing would wait for a reader, which may have gone.
    const original = openOrNull("/proc/self/fd/2", constants.O_RDWR | constants.O_NOCTTY);
    if (original === null) return { value: body(), text: "" };
    try {
      const value = withDescriptor2(file, original, body);
      return { value, text: readFileSync(file, "utf8") };
    } finally {
      closeSync(original);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function withDescriptor2<T>(file: string, original: number, body: () => T): T {
  const back = `/proc/self/fd/${original}`;
  closeSync(2);
  const opened = openOrNull(file, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND);
  if (opened !== 2) {
    // There is no space for the file, or another thread took the number: leave things as they were.
    if (opened !== null) closeSync(opened);
    openOrNull(back, reopened);
    return body();
  }
  try {
    return body();
  } finally {
    closeSync(2);
    openOrNull(back, reopened);
  }
}

/** O_APPEND has no effect on a terminal or pipe; a file that was opened for appending is opened so again. */
const reopened = constants.O_WRONLY | constants.O_NOCTTY | constants.O_APPEND;

/** Whether writes to descriptor 2 always go to the end, even if other processes write to that file. */
function isAppendedTo(): boolean {
  const [, flags = "0"] = readFileSync("/proc/self/fdinfo/2", "utf8").match(/^flags:\s*([0-7]+)/m) ?? [];
  return (Number.parseInt(flags, 8) & constants.O_APPEND) !== 0;
}

function canCapture(): boolean {
  if (process.platform !== "linux" || process.env["FOOTHOLD_TRACE"]) return false;
  try {
    fstatSync(0); // 0 and 1 must be taken, or the next descriptor would not be 2
    fstatSync(1);
    const stderr = fstatSync(2);
    return isatty(2) || stderr.isFIFO() || (stderr.isFile() && isAppendedTo());
  } catch {
    return false;
  }
}

function temporaryFolder(): string | null {
  try {
    return mkdtempSync(join(tmpdir(), "foothold-stderr-"));
  } catch {
    return null;
  }
}

function openOrNull(path: string, flags: number): number | null {
  try {
    return openSync(path, flags, 0o600);
  } catch {
    return null;
  }
}
