// Benchmarks are trusted for two things: that they time work whose result is right, and that their arithmetic is. So every
// case's check must fail where nothing is computed, and pass on the plain backend where the case is small enough for that.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ceilingsOf, shareOf } from "../../bench/ceilings.ts";
import type { BenchCase } from "../../bench/harness.ts";
import { copyCase } from "../../bench/measure-ceilings.ts";
import { expectInstalled } from "../../bench/peers/installed.ts";
import { type PeerTiming, ratioOf, tableLines, timingOf } from "../../bench/peers/table.ts";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { scopeAsync } from "../../engine/scope.ts";
import { describe, throwsMessage } from "../support.ts";

/** Takes all work and does none of it. */
class IdleBackend extends CpuBackend {
  override dispatch(): void {}
}

const folder = fileURLToPath(new URL("../../bench/", import.meta.url));
const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".bench.ts") && !file.includes("node_modules"))
  .sort();

/** What the plain backend does in a fraction of a second; the larger shapes have the same checks. */
const isSmall = ({ name, flops }: BenchCase): boolean => /tiny|copy/.test(name) && flops < 5e7;

async function outcome(one: BenchCase, backend: CpuBackend): Promise<string> {
  return scopeAsync(async () => {
    try {
      const work = one.setUp(backend);
      work.run();
      await work.check();
      return "passed";
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : String(thrown);
    }
  });
}

const found: { file: string; cases: readonly BenchCase[] }[] = [];
for (const file of files) found.push({ file, ...(await import(pathToFileURL(join(folder, file)).href)) });
found.push({ file: "measure-ceilings.ts", cases: [copyCase(4096)] });

describe("bench", (test) => {
  for (const { file, cases } of found) {
    const small = cases.filter(isSmall);
    test(`${file}: small cases pass on the plain backend, and none where nothing is computed`, async () => {
      assert.ok(small.length > 0, "there is no small case");
      for (const one of small) {
        assert.equal(await outcome(one, new CpuBackend()), "passed", one.name);
        assert.notEqual(await outcome(one, new IdleBackend()), "passed", one.name);
      }
    });
  }

  test("a file that cannot be written is refused before anything is measured", () => {
    for (const [json, message] of [
      [folder, "expected a file, got a folder"],
      [join(folder, "none", "results.json"), "no such file or folder"],
    ]) {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [join(folder, "run.ts"), "rms-norm", "--json", json],
        {
          encoding: "utf8",
        },
      );
      assert.deepEqual([status, stdout], [2, ""]);
      assert.match(stderr, new RegExp(message));
    }
  });

  test("names are unique: a result is found by its name", () => {
    const names = found.flatMap(({ file, cases }) => cases.map(({ name }) => `${file} ${name}`));
    assert.deepEqual(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
    );
  });

  test("a share is of the ceiling that a case comes closer to", () => {
    const ceilings = ceilingsOf(
      [{ name: "copy", gflopsPerSecond: 0, gigabytesPerSecond: 4 }],
      [
        { name: "slow", gflopsPerSecond: 10, gigabytesPerSecond: 1 },
        { name: "fast", gflopsPerSecond: 20, gigabytesPerSecond: 1 },
      ],
    );
    assert.equal(ceilings.matmulCase, "fast");
    assert.deepEqual(shareOf({ gflopsPerSecond: 5, gigabytesPerSecond: 3 }, ceilings), { share: 0.75, of: "copy" });
    assert.deepEqual(shareOf({ gflopsPerSecond: 19, gigabytesPerSecond: 3 }, ceilings), { share: 0.95, of: "matmul" });
  });
});

describe("bench/peers", (test) => {
  const times = (...ms: number[]) => ms.map((one) => ({ ms: one, processorMs: 2 * one }));
  const peer: PeerTiming = { ...timingOf("other", 9, times(30, 20, 90)), oursBeside: times(10, 10, 10) };

  test("the ratio is the median of the rounds' own ratios", () => {
    assert.equal(ratioOf(peer), 3);
    const drifting: PeerTiming = { ...peer, rounds: times(20, 40, 80), oursBeside: times(10, 20, 40) };
    assert.equal(ratioOf(drifting), 2);
    assert.equal(
      ratioOf({ ...peer, rounds: [{ ms: 30, processorMs: 5 }], oursBeside: times(10) }, "processorMs"),
      0.25,
    );
  });

  test("a table has a row for each peer, with rate and share of ours", () => {
    const ceilings = { copyGigabytesPerSecond: 1, copyCase: "", matmulGflopsPerSecond: 20, matmulCase: "" };
    const lines = tableLines(
      [{ task: "matmul", flops: 1e8, ours: timingOf("foothold", 5, times(10)), others: [peer] }],
      ceilings,
    );
    assert.deepEqual(lines.slice(2), ["| matmul | other | 10.0 | 30.0 | 3.00 | 3.00 | 10.0 | 50% |"]);
  });

  test("libraries that are not installed are named, with the command that installs them", () => {
    const empty = mkdtempSync(join(tmpdir(), "foothold-peers-"));
    try {
      writeFileSync(join(empty, "package.json"), JSON.stringify({ dependencies: { "@a/b": "1.0.0", c: "1.0.0" } }));
      mkdirSync(join(empty, "node_modules", "c"), { recursive: true });
      throwsMessage(() => expectInstalled(empty), "got no @a/b. Install them once");
      mkdirSync(join(empty, "node_modules", "@a", "b"), { recursive: true });
      expectInstalled(empty);
    } finally {
      rmSync(empty, { recursive: true, force: true });
    }
  });
});
