// Commands as a shell sees them: exit codes, what is printed where, signals, and dying on demand.
import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { expectNode, inOwnWords, renameCommands } from "../../../engine/host/command-line.ts";
import { UserError } from "../../../engine/host/errors.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-command-"));
const engine = new URL("../../../engine/", import.meta.url).href;

const program = join(temporary, "command.ts");
writeFileSync(
  program,
  `
import { writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { RunFolderError } from "${engine}host/errors.ts";
import { runCommand } from "${engine}host/command-line.ts";
import { killPoint } from "${engine}host/kill-point.ts";
import { choice, defineSettings, integer } from "${engine}host/settings.ts";

const settings = defineSettings({
  how: choice({ options: ["print", "user", "ours", "reject", "full", "wait", "steps", "lots", "long", "throw-abort", "note", "lost", "exit", "exit-3"], default: "print", meaning: "what to do" }),
  landscape: { points: integer({ default: 7, min: 3, unit: "points", meaning: "points along each axis" }) },
});
await runCommand({
  name: "node command.ts",
  summary: "Does something for a test.",
  settings,
  positional: [{ name: "STUDY.toml", meaning: "settings from a file" }],
  settingsFiles: (positionals) => positionals,
  async main({ values, signal, progress }) {
    setInterval(() => {}, 1000); // as a GPU does, it would keep the process alive
    const phase = progress.phase("work", 3, "steps");
    switch (values.how) {
      case "print": console.log("points " + values.landscape.points); return;
      case "user": throw new RunFolderError("runs/x: in use. Stop the other one.", { cause: new Error("below") });
      case "lost": throw Object.assign(new Error("the GPU was lost."), { isMachineFailure: true });
      case "ours": throw new TypeError("an invariant broke");
      case "reject": void Promise.reject(new RangeError("nobody waits for this")); await setTimeout(5000); return;
      case "full": writeFileSync("/dev/full", "x"); return;
      case "wait":
        console.log("ready");
        for (let i = 0; i < 400 && !signal.aborted; i++) await setTimeout(25);
        writeFileSync(process.env.SAVED ?? "", "saved");
        if (process.env.SLOW) await setTimeout(10_000);
        return;
      case "throw-abort":
        console.log("ready");
        await setTimeout(10_000, undefined, { signal });
        return;
      case "exit": process.exit(0);
      case "exit-3": process.exit(3);
      case "note": {
        progress.line("Start node landscape/work.ts.");
        // On a pipe a note is shown once in five seconds.
        const { now } = performance;
        performance.now = () => now.call(performance) + 6000;
        phase.advance(1, "no worker yet (node landscape/work.ts)");
        return;
      }
      case "lots": for (let i = 0; i < 20_000; i++) console.log("line " + i); return;
      case "long": process.stdout.write("x".repeat(300_000)); return;
      case "steps":
        for (let i = 1; i <= 3; i++) {
          killPoint("step");
          console.log("step " + i);
          phase.advance();
        }
    }
  },
});
`,
);

function run(argv: string[], environment: Record<string, string> = {}): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [program, ...argv], {
    encoding: "utf8",
    cwd: temporary,
    env: { ...process.env, FOOTHOLD_KILL_AT: "", ...environment },
  });
}

async function ready(argv: string[], environment: Record<string, string>): Promise<ChildProcess> {
  const child = spawn(process.execPath, [program, ...argv], { env: { ...process.env, ...environment } });
  if (!child.stdout) throw new Error("no output");
  await once(child.stdout, "data");
  return child;
}

describe("engine/host/command-line", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("a command that is done ends with 0, its result on standard output, progress on standard error", () => {
    const { status, stdout, stderr } = run(["--landscape.points", "9"]);
    assert.equal([status, stdout], [0, "points 9\n"]);
    assert.match(stderr, "work: 0/3 steps\n");
    assert.is(run(["--quiet"]).stderr, "");
  });

  test("defaults < file < flags, and every problem of both in one message with exit code 2", () => {
    writeFileSync(join(temporary, "study.toml"), "[landscape]\npoints = 11\n");
    assert.is(run(["study.toml"]).stdout, "points 11\n");
    assert.is(run(["study.toml", "--landscape.points=13"]).stdout, "points 13\n");
    writeFileSync(join(temporary, "wrong.toml"), "[landscape]\npoint = 11\n");
    const { status, stdout, stderr } = run(["wrong.toml", "--landscape.points=2"]);
    assert.equal([status, stdout], [2, ""]);
    assert.is(
      stderr,
      "SettingsError: 2 settings are wrong:\n" +
        "  unknown setting landscape.point (wrong.toml, line 2); did you mean landscape.points?\n" +
        "  landscape.points: expected an integer, at least 3, got 2 (--landscape.points=2): points along each axis\n",
    );
    assert.match(run(["missing.toml"]).stderr, "FileError: missing.toml: no such file or folder.");
    assert.match(run(["a.toml", "b.toml"]).stderr, "expected STUDY.toml, got a.toml b.toml");
  });

  test("messages name commands as the user types them", () => {
    const isInstalled = /[\\/]node_modules[\\/]/.test(process.execPath);
    const node = isInstalled ? "npx node" : "node";
    const text = "node landscape/run.ts, npx node rl/train.ts, anode model/score.ts, node other.ts, node bench/run.ts.";
    const expected = `${node} landscape/run.ts, npx node rl/train.ts, anode model/score.ts, node other.ts, ${node} bench/run.ts.`;
    assert.is(inOwnWords(text), expected);
    const { stderr } = run(["--how", "note"]);
    assert.match(stderr, `Start ${node} landscape/work.ts.\n`);
    assert.match(stderr, "work: 1/3 steps, ");
    assert.match(stderr, ` left, no worker yet (${node} landscape/work.ts)\n`);
    renameCommands(new Map([["node landscape/run.ts", "foothold study"]]));
    try {
      assert.is(inOwnWords("node landscape/run.ts tiny"), "foothold study tiny");
    } finally {
      renameCommands(new Map());
    }
  });

  test("--help and --version", () => {
    const help = run(["--help", "--nonsense"]);
    assert.is(help.status, 0);
    assert.match(help.stdout, "Usage: node command.ts [STUDY.toml] [--KEY VALUE]…");
    assert.match(help.stdout, "--landscape.points INTEGER");
    assert.is(run(["-h"]).stdout, run(["--help"]).stdout);
    const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));
    assert.is(run(["--version"]).stdout, `foothold ${version}\n`);
  });

  test("a mistake of the user, and a lost GPU, is one message and exit code 2; --verbose adds the stack and the cause", () => {
    const plain = run(["--how", "user", "--quiet"]);
    assert.equal([plain.status, plain.stderr], [2, "RunFolderError: runs/x: in use. Stop the other one.\n"]);
    const lost = run(["--how", "lost", "--quiet"]);
    assert.equal([lost.status, lost.stderr], [2, "Error: the GPU was lost.\n"]);
    const verbose = run(["--how", "user", "--verbose"]);
    assert.is(verbose.status, 2);
    assert.match(verbose.stderr, /RunFolderError: runs\/x: in use.*\n {4}at .*command\.ts/);
    assert.match(verbose.stderr, "caused by Error: below");
  });

  test("a mistake of ours shows its stack and exit code 1, also where nobody awaits it", () => {
    for (const [how, message] of [
      ["ours", "TypeError: an invariant broke"],
      ["reject", "RangeError: nobody waits for this"],
    ]) {
      const { status, stderr } = run(["--how", how]);
      assert.is(status, 1);
      assert.match(stderr, message);
      assert.match(stderr, /\n {4}at .*command\.ts/);
    }
  });

  if (!existsSync("/dev/full")) test.skip("a full disk", "no /dev/full on this machine");
  else
    test("a full disk is a message with the mend, wherever the write was", () => {
      const { status, stderr } = run(["--how", "full", "--quiet"]);
      assert.is(status, 2);
      assert.match(stderr, /^FileError: .*: the disk is full\. Free some space.*\(ENOSPC\)\n$/);
    });

  if (!existsSync("/dev/full")) test.skip("output on a full disk", "no /dev/full on this machine");
  else
    test("output on a full disk is a message and exit code 2, and no success", () => {
      const full = openSync("/dev/full", "w");
      try {
        for (const how of ["print", "lots"]) {
          const { status, stderr } = spawnSync(process.execPath, [program, "--how", how, "--quiet"], {
            encoding: "utf8",
            stdio: ["ignore", full, "pipe"],
          });
          assert.is(status, 2);
          assert.match(
            stderr,
            /^FileError: standard output: the disk is full\. Free some space.*cut off: it is not the whole/,
          );
        }
      } finally {
        closeSync(full);
      }
    });

  if (process.platform === "win32") test.skip("output that fits in part", "Windows has no ulimit");
  else
    test("output of which only the beginning fits into its file is a message too", () => {
      const cut = join(temporary, "cut.txt");
      // The system writes what is below the limit, and reports no error until the next call.
      const line = `ulimit -f 8; exec "${process.execPath}" "${program}" --how long --quiet > "${cut}"`;
      const { status, stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8" });
      assert.ok(statSync(cut).size < 300_000);
      assert.is(status, 2);
      assert.match(stderr, /^FileError: standard output: the file is larger than .*cut off: it is not the whole/);
      const whole = join(temporary, "whole.txt");
      const { status: code } = spawnSync("sh", ["-c", `"${process.execPath}" "${program}" --how long > "${whole}"`]);
      assert.equal([code, statSync(whole).size], [0, 300_000]);
    });

  if (process.platform === "win32") test.skip("signals", "Windows has none");
  else {
    test("Ctrl-C and kill let the command save and end with 130", async () => {
      for (const name of ["SIGINT", "SIGTERM"] as const) {
        const saved = join(temporary, `saved-${name}`);
        const child = await ready(["--how", "wait"], { SAVED: saved });
        let printed = "";
        child.stderr?.on("data", (data) => {
          printed += String(data);
        });
        child.kill(name);
        const [code] = await once(child, "exit");
        assert.is(code, 130);
        assert.ok(existsSync(saved));
        assert.match(printed, "saving, press again to stop at once\n");
      }
    });
    test("work that breaks off at the signal ends with 130 too", async () => {
      const child = await ready(["--how", "throw-abort"], {});
      child.kill("SIGINT");
      assert.equal(await once(child, "exit"), [130, null]);
    });
    test("a second Ctrl-C ends it at once", async () => {
      const saved = join(temporary, "saved-slow");
      const child = await ready(["--how", "wait"], { SAVED: saved, SLOW: "1" });
      const start = performance.now();
      child.kill("SIGINT");
      while (!existsSync(saved)) await new Promise((resolve) => setTimeout(resolve, 10));
      child.kill("SIGINT");
      assert.equal(await once(child, "exit"), [130, null]);
      assert.ok(performance.now() - start < 5000);
    });
    test("a reader that has gone ends the command without complaint", () => {
      const line = `'${process.execPath}' '${program}' --how lots --quiet | head -n 2`;
      const { stdout, stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8" });
      assert.equal([stdout, stderr], ["line 0\nline 1\n", ""]);
    });
    test("a module that ends the process itself is no success, and is said", () => {
      for (const [how, asked, status] of [
        ["exit", 0, 1],
        ["exit-3", 3, 3],
      ] as const) {
        const ended = run(["--how", how]);
        assert.is(ended.status, status);
        assert.match(ended.stderr, `The process was ended with code ${asked} before the command was done`);
      }
      for (const argv of [[], ["--how", "user"], ["--help"]])
        assert.not.match(run(argv).stderr, "before the command was done");
    });

    test("FOOTHOLD_KILL_AT kills at the named point, at the given count, and nowhere else", () => {
      for (const count of [1, 3]) {
        const { signal, stdout } = run(["--how", "steps"], { FOOTHOLD_KILL_AT: `step:${count}` });
        assert.is(signal, "SIGKILL");
        assert.is(stdout.match(/step/g)?.length ?? 0, count - 1);
      }
      for (const elsewhere of ["", "step:4", "other:1"])
        assert.is(run(["--how", "steps"], { FOOTHOLD_KILL_AT: elsewhere }).status, 0);
      const wrong = run(["--how", "steps"], { FOOTHOLD_KILL_AT: "step" });
      assert.is(wrong.status, 2);
      assert.match(wrong.stderr, 'FOOTHOLD_KILL_AT: expected NAME:COUNT with COUNT from 1, got "step"');
    });
  }

  test("Node before 22.18 is refused with what to use instead", async () => {
    for (const version of ["22.18.0", "22.19.1", "24.0.0"]) expectNode(version);
    for (const version of ["20.19.0", "22.17.9"])
      assert.instance(await throwsMessage(() => expectNode(version), version, "npm start", "npx node"), UserError);
  });
});
