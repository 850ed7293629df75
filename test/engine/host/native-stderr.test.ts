// What native code prints is caught on a pipe, and standard error is afterwards what it was before.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { describe } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-stderr-"));
const stderrModule = fileURLToPath(new URL("../../../engine/host/native-stderr.ts", import.meta.url));

/** A write to descriptor 2 stands for a driver's: both bypass process.stderr. A child's own stderr is one too. */
const program = `
  import { writeSync, readdirSync } from "node:fs"; import { spawnSync } from "node:child_process";
  import { captureNativeStderr } from ${JSON.stringify(stderrModule)};
  const descriptors = () => readdirSync("/proc/self/fd").length;
  process.stderr.on("error", () => {}); // a reader that has gone
  console.error("before");
  const open = descriptors();
  for (let i = 0; i < 50; i++) captureNativeStderr(() => 0);
  await new Promise((resolve) => setTimeout(resolve, 50)); // time for that reader to go
  const { value, text } = captureNativeStderr(() => {
    writeSync(2, "inside ");
    spawnSync("sh", ["-c", "echo child >&2"], { stdio: ["ignore", "ignore", "inherit"] });
    return 42;
  });
  try { captureNativeStderr(() => { writeSync(2, "lost"); throw new Error("thrown"); }); } catch (error) { console.error(error.message); }
  try { writeSync(2, "after\\n"); } catch (error) { if (error.code !== "EPIPE") throw error; }
  console.log(JSON.stringify({ value, text, leaked: descriptors() - open }));`;

function run(redirection: string): { stdout: string; stderr: string } {
  const file = join(temporary, "stderr");
  writeFileSync(file, "");
  const line = `'${process.execPath}' --input-type=module -e "$0" ${redirection.replaceAll("FILE", `'${file}'`)}`;
  const { stdout } = spawnSync("sh", ["-c", line, program], {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: temporary, FOOTHOLD_TRACE: "" },
  });
  return { stdout, stderr: readFileSync(file, "utf8") };
}

describe("engine/host/native-stderr", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));
  if (process.platform !== "linux") {
    test.skip("catching what native code prints", "only Linux has /proc/self/fd");
    return;
  }

  test("on a pipe it is caught, also when the body throws, and nothing stays open or behind", () => {
    const { stdout, stderr } = run("2>&1 >FILE.out | cat >FILE; cat FILE.out; rm FILE.out");
    assert.equal(JSON.parse(stdout), { value: 42, text: "inside child\n", leaked: 0 });
    assert.is(stderr, "before\nthrown\nafter\n");
    assert.equal(readdirSync(temporary), ["stderr"]);
  });

  test("in a regular file it stays in its place", () => {
    const { stdout, stderr } = run("2>FILE");
    assert.equal(JSON.parse(stdout), { value: 42, text: "", leaked: 0 });
    assert.is(stderr, "before\ninside child\nlostthrown\nafter\n");
  });

  test("in a file that is appended to it is caught, and nothing is written over", () => {
    const { stdout, stderr } = run("2>>FILE");
    assert.equal(JSON.parse(stdout), { value: 42, text: "inside child\n", leaked: 0 });
    assert.is(stderr, "before\nthrown\nafter\n");
  });

  test("where standard error or its reader is gone, the body runs all the same", () => {
    assert.is(JSON.parse(run("2>&-").stdout).value, 42);
    assert.is(JSON.parse(run("2>&1 >FILE.out | true; cat FILE.out; rm FILE.out").stdout).value, 42);
    assert.is(JSON.parse(run("0<&- 2>&1 >FILE.out | cat >/dev/null; cat FILE.out; rm FILE.out").stdout).value, 42);
  });
});
