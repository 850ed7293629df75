// What a user meets in a whole run when something goes wrong: one message that says what, where and how to mend it, exit code 2, no
// stack, and everything computed so far is as it was (refusals.test.ts: what is refused before a run begins). Then Ctrl-C, a full
// disk and longer studies: the same command goes on, to the bytes of a run that nothing disturbed.
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { homedir, hostname, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { SmallDisk } from "../small-disk.ts";
import { describe, fixturePath } from "../support.ts";
import {
  contents,
  expectDone,
  expectRefused,
  expectSame,
  type Flags,
  root,
  runStudy,
  start,
  studyCommand,
  until,
} from "./tiny-study.ts";

/** Another slice, another step, another checkpoint to sweep. */
const larger: Flags = {
  "train.steps": "4",
  "train.checkpoints": "0,3,4",
  "landscape.steps": "3,4",
  "landscape.slices": "2",
};

/** Nothing in a run folder may hold these. */
const user = { USER: "grace-hopper", LOGNAME: "grace-hopper", HOSTNAME: "harvard-mark-one" };

const someMs = (most: number): number => Math.floor(Math.random() * most);

/** Takes all the room that is left on a disk. */
function fill(path: string): void {
  const file = openSync(path, "w");
  try {
    for (let size = 1 << 20; size >= 1; size >>= 1)
      try {
        for (;;) if (writeSync(file, Buffer.alloc(size)) < size) break;
      } catch (thrown) {
        if (!(thrown instanceof Error && "code" in thrown && thrown.code === "ENOSPC")) throw thrown;
      }
  } finally {
    closeSync(file);
  }
}

describe("landscape/doors", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-doors-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // All run folders have one name, so that nothing in the files differs by it.
  let folders = 0;
  const newOut = (): string => join(place, String(folders++), "study");
  const undisturbed = newOut();
  /** A copy of the undisturbed run, to do things to. */
  const copy = (): string => {
    const out = newOut();
    cpSync(undisturbed, out, { recursive: true });
    return out;
  };

  test("a second process on one run folder is refused, and does the first no harm", async () => {
    const first = start(studyCommand(undisturbed), user);
    await until("it had begun to train", first, () => existsSync(join(undisturbed, "metrics.jsonl")));
    // The first stands still meanwhile, so that it cannot end before the second begins. Windows has no such signals.
    const signal = (name: NodeJS.Signals): void => void (process.platform === "win32" || first.child.kill(name));
    signal("SIGSTOP");
    const second = await runStudy(undisturbed);
    const third = await start(["landscape/report.ts", undisturbed]).ended;
    signal("SIGCONT");
    expectRefused(second, `process ${first.child.pid} has it`, "--out");
    expectRefused(third, `process ${first.child.pid} has it`);
    expectDone(await first.ended);
    assert.ok(existsSync(join(undisturbed, "report.html")));
    assert.not.ok(existsSync(join(undisturbed, ".lock")));
  });

  test("nothing in a run folder names a place (but a path that was given), a user or a machine; moved, its report is drawn to the same bytes", async () => {
    const names = [place, root, fixturePath(""), homedir(), ...Object.values(user)];
    // "vm" or "root" would be found in any text.
    if (hostname().length > 4) names.push(hostname());
    for (const [name, bytes] of contents(undisturbed)) {
      const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("latin1");
      for (const told of names) assert.not.ok(text.includes(told), `${name} holds ${told}`);
    }
    const provenance = readFileSync(join(undisturbed, "provenance.json"), "utf8");
    for (const told of names) assert.not.ok(provenance.includes(told), `provenance.json holds ${told}`);

    const out = join(place, "moved", "study");
    mkdirSync(dirname(out));
    cpSync(undisturbed, out, { recursive: true });
    for (const drawn of ["figures", "report.html"]) rmSync(join(out, drawn), { recursive: true });
    for (const summary of contents(out).keys())
      if (/(points\.csv|(summary|claims)\.json)$/.test(summary)) rmSync(join(out, summary));
    expectDone(await start(["landscape/report.ts", out]).ended);
    expectSame(contents(out), contents(undisturbed));
    const dot = start([join(root, "landscape/report.ts"), "."], {}, out);
    expectDone(await dot.ended);
    expectSame(contents(out), contents(undisturbed));
    expectRefused(await start(["landscape/report.ts", place]).ended, "expected a run folder, it has no config.toml");
  });

  test("docs/formats.md names every file of a run folder, and every field; docs/reading-files.md the schema versions", () => {
    const page = (name: string): string => readFileSync(join(root, "docs", name), "utf8");
    const versions = page("reading-files.md");
    const document = page("formats.md") + versions;
    const told = (what: string, name: string): void => {
      assert.ok(
        new RegExp(`(?<![\\w-])${name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\w-])`).test(document),
        `${what} is told`,
      );
    };
    const slice = "landscape/step-000003/slice-0";
    const read = (name: string): string => readFileSync(join(undisturbed, name), "utf8");
    for (const name of contents(undisturbed).keys())
      told(name, name.startsWith("figures/") ? "figures" : basename(name).replace(/step-\d+/, "step-NNNNNN"));
    const keys = (name: string, json: unknown): void => {
      if (Array.isArray(json)) for (const item of json) keys(name, item);
      else if (typeof json === "object" && json !== null)
        for (const [key, value] of Object.entries(json)) {
          if (name === "summary.json" && key === "origin") continue; // columns of points.csv
          if (!/\.(json|safetensors)$/.test(key)) told(`${name}: ${key}`, key);
          keys(name, value);
        }
    };
    for (const name of [
      ...["provenance.json", "state/slot-0/trainer.json", "landscape/claims.json"],
      ...[`${slice}/slice.json`, `${slice}/summary.json`],
    ])
      keys(basename(name), JSON.parse(read(name)));
    keys("reference.json", JSON.parse(read("landscape/step-000003/reference.json")));
    // The table of schema versions has each JSON file once, with the version that the file has.
    for (const name of contents(undisturbed).keys()) {
      if (!name.endsWith(".json") || /^checkpoints.*\/(?!step)/.test(name)) continue;
      const { schemaVersion = "–" } = JSON.parse(read(name));
      const rows = versions
        .split("\n")
        .filter((row) => /^\| `.*\| (\d|–) \|$/.test(row) && row.includes(basename(name)));
      assert.equal(
        rows.map((row) => row.split("|").at(-2)?.trim()),
        [String(schemaVersion)],
        `the version of ${name} in docs/reading-files.md`,
      );
    }
    for (const name of ["timings.jsonl", `${slice}/cells.jsonl`])
      for (const line of read(name).trim().split("\n")) keys(basename(name), JSON.parse(line));
    for (const name of ["rollouts/step-000001.jsonl.gz", `${slice}/rollouts.jsonl.gz`])
      keys(
        name,
        JSON.parse(
          gunzipSync(readFileSync(join(undisturbed, name)))
            .toString()
            .split("\n")[0],
        ),
      );
    for (const column of read(`${slice}/points.csv`).split("\n")[0].split(","))
      told(
        `points.csv: ${column}`,
        column
          .replace(/(?<=^pass_at_)\d+/, "K")
          .replace(/(?<=^differs_in_tenth_)\d+/, "K")
          .replace(/(?<=^cover_at_)[\d.]+/, "TAU")
          .replace(/(?<=_reward_)[\d.]+$/, "T"),
      );
  });

  test("the folder of another study, model or adapter is left as it is; what it was begun with goes on", async () => {
    const out = copy();
    mkdirSync(`${out}-2`);
    expectRefused(
      await runStudy(out, {
        "landscape.radius": "0.1",
        "train.seed": "7",
        "train.steps": "2",
        "train.checkpoints": "0",
        "landscape.steps": "0",
      }),
      "this folder holds another study",
      "train.seed: 100 -> 7",
      "train.steps: 3 -> 2",
      "landscape.radius: 0.05 -> 0.1",
      `--out ${out}-3`,
    );
    const other = join(place, "other");
    cpSync(fixturePath("tiny-warm-start"), other, { recursive: true });
    const weights = readFileSync(join(other, "model.safetensors"));
    weights[weights.length - 1] ^= 1;
    writeFileSync(join(other, "model.safetensors"), weights);
    expectRefused(await runStudy(out, { "model.path": other }), 'model.safetensors of "other" differs', "--model.path");

    const provenance = join(out, "provenance.json");
    const { adapter } = JSON.parse(readFileSync(provenance, "utf8"));
    writeFileSync(provenance, readFileSync(provenance, "utf8").replace(adapter, "An Older Driver"));
    const before = contents(out);
    expectRefused(await runStudy(out, larger), 'begun on the adapter "An Older Driver"', adapter, `--out ${out}-3`);
    expectSame(contents(out), before);
    expectDone(await runStudy(out)); // all is computed: any adapter may draw it
    expectSame(contents(out), before);

    rmSync(provenance);
    expectRefused(await runStudy(out), provenance, "the adapter that made the results here is unknown");
    expectSame(contents(out), contents(undisturbed));
  });

  test("a checkpoint that was removed or damaged: made again where that can be, else how to", async () => {
    const out = copy();
    const checkpoint = (step: number): string => join(out, "checkpoints", `step-${String(step).padStart(6, "0")}`);
    rmSync(checkpoint(3), { recursive: true });
    expectDone(await runStudy(out)); // the state is of that step
    expectSame(contents(out), contents(undisturbed));

    rmSync(checkpoint(0), { recursive: true });
    expectRefused(await runStudy(out), `${checkpoint(0)}: missing`, `delete ${join(out, "state")}`);
    rmSync(join(out, "state"), { recursive: true });
    expectDone(await runStudy(out));
    expectSame(contents(out), contents(undisturbed));

    const weights = join(checkpoint(3), "model.safetensors");
    const bytes = readFileSync(weights);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(weights, bytes);
    expectRefused(
      await runStudy(out, { "landscape.slices": "2" }),
      `${weights}: changed since it was written`,
      "Restore it",
    );
    rmSync(weights);
    expectRefused(await runStudy(out, { "landscape.slices": "2" }), `${weights}: missing`);
  });

  test("a longer study computes what is new, to the bytes of one that was as long from the start", async () => {
    const extended = copy();
    const swept = join(extended, "landscape", "step-000003", "slice-0", "cells.jsonl");
    const { mtimeMs } = statSync(swept);
    expectDone(await runStudy(extended, larger));
    assert.is(statSync(swept).mtimeMs, mtimeMs, "cells that were there are not measured again");
    const whole = newOut();
    expectDone(await runStudy(whole, larger));
    expectSame(contents(extended), contents(whole));
    expectRefused(await runStudy(extended), "this folder holds another study", "landscape.slices: 2 -> 1");
  });

  if (process.platform === "win32") test.skip("Ctrl-C", "Windows has no signals");
  else {
    const interrupted = async (
      out: string,
      what: string,
      { delayMs, holds, mayBeDone = false }: { delayMs: number; holds: () => boolean; mayBeDone?: boolean },
    ): Promise<void> => {
      const run = start(studyCommand(out));
      // The condition may hold from an earlier part on; a process that has just started does not hear signals yet.
      await until(what, run, () => run.hasSpoken() && holds());
      await setTimeout(delayMs);
      run.child.kill("SIGINT");
      const { status, signal, stderr } = await run.ended;
      const told = `${what} + ${delayMs} ms: got ${status ?? signal}: ${stderr}`;
      if (mayBeDone && status === 0) return;
      assert.is(status, 130, told);
      assert.match(stderr, "saving, press again to stop at once\n", told);
      // An earlier process may have got so far that this one was still planning.
      assert.match(stderr, /Stopped(\. The same command continues from here| while the run was planned)\./, told);
      assert.not.match(stderr, /Error/, told);
    };
    const hasText = (path: string, text: string): boolean =>
      existsSync(path) && readFileSync(path, "utf8").includes(text);

    test("Ctrl-C while training saves what is done; a damaged state falls back to the one before, two are refused", async () => {
      const out = newOut();
      await interrupted(out, "step 1 was done", {
        delayMs: 0,
        holds: () => hasText(join(out, "metrics.jsonl"), '{"step":1'),
      });
      const slot = (k: number): string => join(out, "state", `slot-${k}`, "state.safetensors");
      // Step 1 is not one after which the state is saved: Ctrl-C did it.
      assert.match(readFileSync(join(dirname(slot(1)), "trainer.json"), "utf8"), /"step":[12],/);
      const sound = [0, 1].map((k) => readFileSync(slot(k)));
      for (const k of [0, 1]) truncateSync(slot(k), 1000);
      expectRefused(await runStudy(out), "no state can be loaded", slot(0), slot(1), `delete it`);
      writeFileSync(slot(0), sound[0]);
      assert.match(expectDone(await runStudy(out)), /Resuming from step 0, because a later state is damaged: .*slot-1/);
      expectSame(contents(out), contents(undisturbed));
    });

    test("Ctrl-C at some moment of training, of sweeping and of reporting: the same command goes on", async () => {
      const out = newOut();
      await interrupted(out, "training had begun", {
        delayMs: someMs(500),
        holds: () => existsSync(join(out, "metrics.jsonl")),
      });
      await interrupted(out, "sweeping had begun", {
        delayMs: someMs(1000),
        holds: () => existsSync(join(out, "landscape")),
        mayBeDone: true,
      });
      // Drawing and the report take some 80 ms: the command may be done before it hears the signal.
      await interrupted(out, "a figure was drawn", {
        delayMs: someMs(20),
        holds: () => existsSync(join(out, "figures")),
        mayBeDone: true,
      });
      expectDone(await runStudy(out));
      expectSame(contents(out), contents(undisturbed));
    });
  }

  const disk = new SmallDisk(join(place, "mounted"));
  const mounted = disk.folder;
  if (disk.missing !== null) test.skip("a full disk", disk.missing);
  else
    test("a full disk while training and while sweeping: with room again, the same command goes on", async () => {
      assert.ok(disk.mount("size=64m"));
      try {
        const out = join(mounted, "study");
        const ballast = join(mounted, "ballast");
        for (const begun of ["metrics.jsonl", "landscape"]) {
          const run = start(studyCommand(out));
          await until(`${begun} was there`, run, () => existsSync(join(out, begun)));
          fill(ballast);
          expectRefused(await run.ended, out, "the disk is full. Free some space");
          rmSync(ballast);
        }
        expectDone(await runStudy(out));
        expectSame(contents(out), contents(undisturbed));
        fill(ballast);
        expectRefused(await runStudy(join(mounted, "late")), "the disk is full");
      } finally {
        disk.unmount();
      }
    });

  const isRoot = process.getuid?.() === 0;
  if (isRoot && disk.missing !== null)
    test.skip("a folder that cannot be written", "root may write anywhere, and cannot mount here");
  else
    test("a folder that cannot be written", async () => {
      if (!isRoot) chmodSync(mounted, 0o500);
      else assert.ok(disk.mount("size=1m,ro"));
      try {
        expectRefused(
          await runStudy(join(mounted, "study")),
          mounted,
          isRoot ? "the file system is read-only. Choose a place that can be written" : "permission denied",
        );
      } finally {
        if (isRoot) disk.unmount();
      }
    });
});
