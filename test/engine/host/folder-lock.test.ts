// Two processes and one folder: living owners are respected, dead ones are not.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { RunFolderError } from "../../../engine/host/errors.ts";
import { lockFolder } from "../../../engine/host/folder-lock.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-lock-"));
const lockModule = fileURLToPath(new URL("../../../engine/host/folder-lock.ts", import.meta.url));

/** A process that tries to take the folder, says how that went, and stays until its input ends. */
function contender(folder: string): ChildProcess {
  const program = `import { lockFolder } from ${JSON.stringify(lockModule)};
    try { lockFolder(${JSON.stringify(folder)}); console.log("took it"); process.stdin.resume(); }
    catch (error) { console.log(error.message); }`;
  return spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["pipe", "pipe", "inherit"] });
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error("no output");
  const [data] = await once(child.stdout, "data");
  return String(data).trim();
}

describe("engine/host/folder-lock", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("a second process is refused with the first one's number, and let in when that ends", async () => {
    const folder = join(temporary, "shared");
    const first = contender(folder);
    assert.is(await firstLine(first), "took it");
    const error = await throwsMessage(() => lockFolder(folder), folder, `process ${first.pid} has it`);
    assert.instance(error, RunFolderError);
    first.stdin?.end();
    await once(first, "exit");
    assert.not(existsSync(join(folder, ".lock")));
    lockFolder(folder)();
    assert.not(existsSync(join(folder, ".lock")));
  });

  test("the folder of a process that was killed is taken over", async () => {
    const folder = join(temporary, "killed");
    const first = contender(folder);
    await firstLine(first);
    first.kill("SIGKILL");
    await once(first, "exit");
    assert.ok(existsSync(join(folder, ".lock")));
    const release = lockFolder(folder);
    assert.is(JSON.parse(readFileSync(join(folder, ".lock"), "utf8")).pid, process.pid);
    assert.not(existsSync(join(folder, ".lock.takeover")));
    release();
  });

  if (process.platform === "win32") test.skip("a lock that cannot be written", "Windows has no ulimit");
  else
    test("a lock that cannot be written is no lock: the next process finds none", () => {
      const folder = join(temporary, "full");
      const program = `import { lockFolder } from ${JSON.stringify(lockModule)};
        try { lockFolder(${JSON.stringify(folder)}); } catch (error) { console.log(error.message); }`;
      const limited = `trap '' XFSZ; ulimit -f 0; exec '${process.execPath}' --input-type=module -e "$0"`;
      const { stdout } = spawnSync("sh", ["-c", `${limited} | cat`, program], { encoding: "utf8" });
      assert.match(stdout, ".lock: the file is larger than");
      assert.equal(readdirSync(folder), []);
    });

  test("of four that find a dead lock together, one gets it", async () => {
    const folder = join(temporary, "rush");
    const dead = contender(folder);
    await firstLine(dead);
    dead.kill("SIGKILL");
    await once(dead, "exit");
    const rush = Array.from({ length: 4 }, () => contender(folder));
    const said = await Promise.all(rush.map(firstLine));
    for (const child of rush) {
      const ended = child.exitCode === null ? once(child, "exit") : null;
      child.kill("SIGKILL");
      await ended;
    }
    assert.is(said.filter((line) => line === "took it").length, 1, said.join("\n"));
  });

  test("one process cannot take a folder twice, and can again after giving it back", async () => {
    const folder = join(temporary, "twice");
    const release = lockFolder(folder);
    await throwsMessage(() => lockFolder(folder), "this process already has it");
    release();
    release();
    lockFolder(folder)();
  });

  test("a number that was given out again, another boot, and an empty or broken lock do not count", () => {
    const folder = join(temporary, "stale");
    const path = join(folder, ".lock");
    lockFolder(folder)();
    const release = lockFolder(folder);
    const mine = JSON.parse(readFileSync(path, "utf8"));
    release();
    const stale = ["", "{", "[]", JSON.stringify({ ...mine, boot: "another" })];
    if (process.platform === "linux") stale.push(JSON.stringify({ ...mine, start: "1" }));
    for (const text of stale) {
      writeFileSync(path, text);
      lockFolder(folder)();
      assert.not(existsSync(path), text);
    }
  });

  test("a process that cannot be seen from here is respected, with the way out", async () => {
    const folder = join(temporary, "container");
    const path = join(folder, ".lock");
    const release = lockFolder(folder);
    const mine = JSON.parse(readFileSync(path, "utf8"));
    release();
    writeFileSync(path, JSON.stringify({ ...mine, namespace: "pid:[1]" }));
    await throwsMessage(() => lockFolder(folder), "another container", `delete ${path}`);
  });
});
