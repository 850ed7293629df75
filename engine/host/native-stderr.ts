// Catches what native code prints on standard error while it runs.
//
// Drivers and Dawn write remarks straight to file descriptor 2 ("maxDynamicUniformBuffersPerPipelineLayout artificially
// reduced …"), below anything that process.stderr could intercept, and offer no switch. For one synchronous call the
// descriptor is therefore pointed at a temporary file: a closed descriptor's number is the next to be given out. Node has no
// dup(), so the way back is to open what 2 was once more through /proc/self/fd. That gives the same stream for a terminal, a
// pipe and a file that is appended to (nohup, 2>>log). It gives another position in any other file and nothing for a
// socket: these are left alone, and the remarks show there.
import { closeSync, constants, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";

/**
 * Runs `body` and returns its value with the text that native code printed meanwhile on standard error.
 * The text is empty where it could not be caught. No JavaScript but `body` runs in between, as it is synchronous.
 */
export function captureNativeStderr<T>(body: () => T): { value: T; text: string } {
  const folder = canCapture() ? temporaryFolder() : null;
  if (folder === null) return { value: body(), text: "" };
  const file = join(folder, "stderr");
  try {
    // Opened for reading too: opening a pipe for writing only would wait for a reader that may have gone.
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
    // No room for the file, or another thread took the number: leave things as they were.
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

/** On a terminal or pipe O_APPEND says nothing; a file that was appended to is again. */
const reopened = constants.O_WRONLY | constants.O_NOCTTY | constants.O_APPEND;

/** Whether what is written to descriptor 2 always goes to the end, whoever else writes to that file. */
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
