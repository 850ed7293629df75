// Checks the exit codes of the runner and of a test file that is run alone, on temporary test files in separate
// processes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filesUsing, findTestFiles, unexpectedSkips, unitTests } from "./runner.ts";
import { describe } from "./support.ts";

describe("test/runner", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-runner-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs a module that begins with these imports. */
  function start(body: string): { status: number | null; text: string } {
    const file = join(folder, "made-up.mjs");
    const [support, runner] = ["support", "runner"].map((name) => new URL(`./${name}.ts`, import.meta.url).href);
    writeFileSync(
      file,
      `import { describe, skipRecords } from ${JSON.stringify(support)};
import { runTestFiles } from ${JSON.stringify(runner)};
${body}`,
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 60_000 });
    return { status, text: `${stdout}${stderr}` };
  }
  const alive = "setInterval(() => {}, 1000);\n";
  const good = 'describe("good", (test) => test("passes", () => {}));\n';
  const bad = 'describe("bad", (test) => test("fails", () => { throw new Error("wrong"); }));\n';

  test("a file run alone ends by itself, whatever keeps the process alive", () => {
    assert.equal(start(alive + good).status, 0);
    assert.equal(start(alive + good + bad).status, 1);
  });
  test("a file run alone may wait for something between suites", () => {
    const { status, text } = start(`${good}await new Promise((done) => setTimeout(done, 200));\n${bad}`);
    assert.equal(status, 1);
    assert.match(text, /good.*bad/s);
  });
  test("a file run alone that throws while it is read fails", () => {
    const { status, text } = start(`${good}throw new Error("unreadable");`);
    assert.equal(status, 1);
    assert.match(text, /unreadable/);
  });
  test("a file run alone prints its skips", () =>
    assert.match(
      start('describe("some", (test) => test.skip("one", "no such thing"));').text,
      /skipped: some: one: no such thing/,
    ));
  test("an error in `after` fails the run, and the suites after it still run", () => {
    const after =
      'describe("after", (test) => { test("a", () => {}); test.after(() => { throw new Error("late"); }); });\n';
    const { status, text } = start(after + good);
    assert.equal(status, 1);
    assert.match(text, /after: after: Error: late/);
    assert.match(text, /good.*1 \/ 1/);
  });
  test("a file that cannot be loaded is one failed test, and the others run", () => {
    const { status, text } =
      start(`const { passed, failed } = await runTestFiles(["no-such.test.ts", "support.test.ts"]);
console.log(passed, "and", failed);
process.exit(0);`);
    assert.equal(status, 0, text);
    assert.match(text, /no-such\.test\.ts {2}.*is loaded/);
    assert.match(text, /^[1-9]\d* and 1$/m);
  });

  test("skips are held against those expected for the adapter", () => {
    const expected = { lavapipe: ["a: x"], swiftshader: ["a: y"], machine: ["a: root"] };
    const of = (kind: string, ...skipped: string[]) => unexpectedSkips(kind, expected, skipped, ["a", "b"]);
    assert.deepEqual(of("lavapipe", "a: x"), []);
    assert.deepEqual(of("lavapipe", "a: x", "a: root"), []);
    assert.match(
      of("lavapipe", "a: x", "a: y").join(),
      /^"a: y" was skipped\. .* add it to "lavapipe" in test\/skips\.json\.$/,
    );
    assert.match(of("lavapipe").join(), /^"a: x" was not skipped\. Take it out of "lavapipe" in test\/skips\.json\.$/);
    assert.match(of("hardware", "b: z").join(), /"b: z" was skipped/);
    assert.deepEqual(unexpectedSkips("lavapipe", expected, [], ["b"]), [], "its suite did not run");
  });

  test("tests that need an adapter are told from those that do not", () => {
    const files = findTestFiles(".test.ts");
    const units = unitTests(files);
    // By itself, by a helper, by a helper's helper, by a process.
    for (const file of [
      "engine/backends/webgpu/adapter",
      "model/generate",
      "engine/ops/rms-norm/rms-norm",
      "landscape/kill",
    ]) {
      assert.ok(files.includes(`${file}.test.ts`), file);
      assert.ok(!units.includes(`${file}.test.ts`), file);
    }
    for (const file of ["support", "shaders", "model/config", "landscape/statistics/statistics"])
      assert.ok(units.includes(`${file}.test.ts`), file);
    assert.deepEqual(filesUsing(/a pattern that occurs nowhere but h[e]re/, files), []);
  });
});
