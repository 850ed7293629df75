// The check as a command meets it: in a process of its own, with a Dawn that changes a shader on its way to the driver.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { describe } from "../../support.ts";

const engine = (file: string): string => JSON.stringify(new URL(`../../../engine/${file}`, import.meta.url).href);

describe("engine/check/start", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-start-check-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));

  /** Opens a backend and prints its adapter, or the error. `from` becomes `to` in every shader. */
  const program = join(folder, "open.ts");
  writeFileSync(
    program,
    `
import { loadDawn } from ${engine("backends/webgpu/dawn.ts")};
import { openBackend } from ${engine("open.ts")};
const [from, to] = process.argv.slice(2);
await loadDawn();
if (from) {
  const { createShaderModule } = GPUDevice.prototype;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    return createShaderModule.call(this, { ...descriptor, code: descriptor.code.replace(from, to) });
  };
}
try {
  const { backend } = await openBackend({ backend: "webgpu" });
  console.log("opened; pooled bytes", backend.statistics().pooledBytes, "dispatches", backend.statistics().dispatches);
} catch (error) {
  console.log(error.name + ": " + error.message);
}
process.exit(0);
`,
  );
  const cache = join(folder, "cache");
  const environmentOf = (other: Record<string, string>): NodeJS.ProcessEnv => ({
    ...process.env,
    ...{ FOOTHOLD_CACHE: cache, FOOTHOLD_SKIP_CHECK: "", FOOTHOLD_TRACE: "" },
    ...other,
  });
  const open = (words: readonly string[], environment: Record<string, string> = {}) => {
    const { stdout, stderr } = spawnSync(process.execPath, [program, ...words], {
      encoding: "utf8",
      env: environmentOf(environment),
    });
    const checks = join(cache, "checks");
    return { stdout, stderr, passes: existsSync(checks) ? readdirSync(checks).length : 0 };
  };
  const fault = ["let values = directionNormals(", "let values = -directionNormals("];

  test("a wrong driver is refused when a backend is opened, every time, and not remembered as right", () => {
    for (let i = 0; i < 2; i++) {
      const { stdout, passes } = open(fault);
      assert.match(
        stdout,
        /^AdapterError: adapter: .+ fails the start-up check: Gaussians of a direction: y, element 0 of 301: /,
      );
      assert.is(passes, 0);
    }
  });

  test("FOOTHOLD_SKIP_CHECK opens it all the same, and says that it was not checked", () => {
    const { stdout, stderr, passes } = open(fault, { FOOTHOLD_SKIP_CHECK: "1" });
    assert.match(stdout, /^opened/);
    assert.match(stderr, "was NOT checked");
    assert.is(passes, 0);
  });

  test("a right driver is opened and remembered; the check leaves nothing in the backend, and no trace", () => {
    for (let i = 0; i < 2; i++) {
      const { stdout, stderr, passes } = open([], { FOOTHOLD_TRACE: "1" });
      assert.is(stdout, "opened; pooled bytes 0 dispatches 0\n");
      assert.not.match(stderr, "FOOTHOLD_TRACE on");
      assert.is(passes, 1);
    }
  });

  /** Whether the cache says that the driver passed: a wrong driver is opened then. */
  const isRemembered = (environment: Record<string, string>): boolean =>
    /^opened/.test(open(fault, environment).stdout);

  test("processes that start together check the driver each, and leave one answer and nothing else", async () => {
    const together = join(folder, "together");
    const all = Array.from({ length: 3 }, () => {
      const child = spawn(process.execPath, [program], { env: environmentOf({ FOOTHOLD_CACHE: together }) });
      let text = "";
      child.stdout.on("data", (data) => {
        text += data;
      });
      return new Promise<string>((resolve) => child.on("close", () => resolve(text)));
    });
    for (const text of await Promise.all(all)) assert.match(text, /^opened/);
    assert.is(readdirSync(join(together, "checks")).length, 1);
    assert.ok(isRemembered({ FOOTHOLD_CACHE: together }));
  });
});
