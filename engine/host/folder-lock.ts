// One process at a time in a run folder.
//
// A lock is a file that names its owner and is created exclusively. The owner may have been killed, so a lock is valid
// only while that process lives. A process number alone does not identify a process, since numbers are reused. So the
// lock also contains the start time of the process, the boot of the machine, and the namespace of process numbers (one
// container cannot see the processes of another). These three come from Linux's /proc; other systems have the number
// alone.
import { closeSync, fsyncSync, openSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { RunFolderError } from "./errors.ts";
import { ensureFolder, explained, writeAll, writeAtomic } from "./files.ts";

const lockName = ".lock";

const ownerSchema = z.object({ pid: z.int(), start: z.string(), boot: z.string(), namespace: z.string() });
type Owner = z.infer<typeof ownerSchema>;

/**
 * Locks the folder (made if missing) for this process, or takes over the lock of a process that died.
 * @returns a function that unlocks the folder; it runs by itself when the process exits
 * @throws RunFolderError that names the process which holds the lock
 */
export function lockFolder(folder: string): () => void {
  ensureFolder(folder);
  const path = join(folder, lockName);
  const mine = JSON.stringify(describe(process.pid));
  if (!createWith(path, mine)) takeOver(path, mine, folder);
  let held = true;
  const release = () => {
    if (held && read(path) === mine) rmSync(path, { force: true });
    held = false;
    process.off("exit", release);
  };
  process.on("exit", release);
  return release;
}

/** Two processes may find the same dead lock: only the one that creates the second file may replace it. */
function takeOver(path: string, mine: string, folder: string): void {
  refuseIfAlive(path, folder);
  const gate = `${path}.takeover`;
  if (!createWith(gate, mine)) {
    refuseIfAlive(gate, folder);
    rmSync(gate, { force: true }); // left by a process that was killed at this point
    if (!createWith(gate, mine)) refuseIfAlive(gate, folder);
  }
  try {
    // The lock may just have been taken over or released: only a lock that still exists and is dead is replaced.
    while (!createWith(path, mine)) {
      if (!refuseIfAlive(path, folder)) continue;
      writeAtomic(path, mine);
      return;
    }
  } finally {
    rmSync(gate, { force: true });
  }
}

function createWith(path: string, text: string): boolean {
  return explained(path, () => {
    let descriptor: number;
    try {
      descriptor = openSync(path, "wx");
    } catch (thrown) {
      if (thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST") return false;
      throw thrown;
    }
    try {
      writeAll(descriptor, Buffer.from(text));
      fsyncSync(descriptor);
    } catch (thrown) {
      rmSync(path, { force: true }); // an empty lock would keep the next run waiting for its owner's name
      throw thrown;
    } finally {
      closeSync(descriptor);
    }
    return true;
  });
}

/** Whether there is a lock of a process that died. @throws RunFolderError if its owner lives */
function refuseIfAlive(path: string, folder: string): boolean {
  let text = read(path);
  // Created, not yet filled: its owner is writing it at this moment, or was killed while doing so.
  for (let tries = 0; text === "" && tries < 20; tries++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    text = read(path);
  }
  if (text === null) return false;
  const owner = parse(text);
  if (owner === null) return true;
  const now = describe(process.pid);
  if (owner.boot !== now.boot) return true;
  if (owner.namespace !== now.namespace)
    throw new RunFolderError(
      `${folder}: process ${owner.pid} of another container has this folder. Wait for it, choose another folder with ` +
        `--out, or, if that container has ended, delete ${path}.`,
    );
  if (!exists(owner.pid) || describe(owner.pid).start !== owner.start) return true;
  const who = owner.pid === process.pid ? "this process already" : `process ${owner.pid}`;
  throw new RunFolderError(
    `${folder}: expected a folder that no other run is using, but ${who} has it. Wait for it, stop it, or choose ` +
      "another folder with --out.",
  );
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // given back a moment ago
  }
}

function parse(text: string): Owner | null {
  try {
    return ownerSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** Identifies a process as far as the system allows: on Linux by /proc, elsewhere by its number only. */
function describe(pid: number): Owner {
  const from = (reader: () => string) => {
    try {
      return reader();
    } catch {
      return "";
    }
  };
  return {
    pid,
    start: from(() => startOf(readFileSync(`/proc/${pid}/stat`, "utf8"))),
    boot: from(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    namespace: from(() => readlinkSync("/proc/self/ns/pid")),
  };
}

/** Field 22 of /proc/PID/stat, in ticks since boot; empty for a process that has ended but was not yet reaped. */
function startOf(stat: string): string {
  // The second field is the command in brackets, which may itself contain blanks and brackets.
  const fields = stat.replace(/^.*\)/s, "").trim().split(" ");
  return fields[0] === "Z" ? "" : fields[19];
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "EPERM"; // it exists, and is another user's
  }
}
