// Which adapter is taken when: each machine is imitated in a process of its own, since drivers stay loaded in one.
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { findSwiftShader, readTar } from "../../../../engine/backends/webgpu/swiftshader.ts";
import { describe, throwsMessage } from "../../../support.ts";

const adapterModule = fileURLToPath(new URL("../../../../engine/backends/webgpu/adapter.ts", import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), "foothold-test-adapter-"));

/** Opens the adapter and adds 1 to a buffer on it; prints JSON. */
const program = join(temporary, "open.ts");
writeFileSync(
  program,
  `
import { openAdapter } from ${JSON.stringify(adapterModule)};
const before = [process.env.VK_DRIVER_FILES, process.env.VK_ICD_FILENAMES];
const { opened, trouble } = await openAdapter({ adapter: process.argv[2] });
const unchanged = [process.env.VK_DRIVER_FILES, process.env.VK_ICD_FILENAMES].every((v, i) => v === before[i]);
if (opened === null) { console.log(JSON.stringify({ why: trouble })); process.exit(0); }
const device = await opened.adapter.requestDevice();
const code = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;" +
  "@compute @workgroup_size(1) fn main() { x[0] += 1; }";
const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
const x = device.createBuffer({ size: 4, usage: 4 | 8 | 128 });
const back = device.createBuffer({ size: 4, usage: 1 | 8 });
device.queue.writeBuffer(x, 0, new Float32Array([41]));
const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: x } }] });
const commands = device.createCommandEncoder();
const pass = commands.beginComputePass();
pass.setPipeline(pipeline); pass.setBindGroup(0, group); pass.dispatchWorkgroups(1); pass.end();
commands.copyBufferToBuffer(x, 0, back, 0, 4);
device.queue.submit([commands.finish()]);
await back.mapAsync(1);
const result = new Float32Array(back.getMappedRange())[0];
console.log(JSON.stringify({ ...opened.info, result, unchanged }));
device.destroy();
`,
);

/** Standard error goes through a pipe (a child's own standard error would be a socket) and is returned with the output. */
function run(choice: string, environment: Record<string, string> = {}): SpawnSyncReturns<string> {
  const environmentOfTest = { ...process.env, FOOTHOLD_CACHE: join(temporary, "cache"), FOOTHOLD_ADAPTER: "" };
  return spawnSync("sh", ["-c", `'${process.execPath}' '${program}' '${choice}' 2>&1 | cat`], {
    encoding: "utf8",
    env: { ...environmentOfTest, ...environment },
  });
}

const nowhere = { VK_DRIVER_FILES: "/nowhere.json", VK_ICD_FILENAMES: "/nowhere.json" };

describe("engine/backends/webgpu/adapter", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  const reason = findSwiftShader();
  if (typeof reason === "string") test.skip("SwiftShader of the npm packages", reason);
  else {
    test("a machine whose Vulkan has no driver gets SwiftShader, which computes, and nothing else is printed", () => {
      const { stdout } = run("auto", nowhere);
      const info = JSON.parse(stdout);
      assert.is(info.label, "swiftshader");
      assert.is(info.result, 42);
      assert.match(info.driver, "SwiftShader");
      assert.match(info.fasterHint, /GPU/);
      assert.ok(info.unchanged, "the loader's variables were put back");
    });
    test("FOOTHOLD_ADAPTER decides where nothing was asked for, and not where something was", () => {
      assert.is(JSON.parse(run("auto", { FOOTHOLD_ADAPTER: "swiftshader" }).stdout).label, "swiftshader");
      assert.is(JSON.parse(run("SwiftShader", { FOOTHOLD_ADAPTER: "nonsense" }).stdout).label, "swiftshader");
    });
    test("it is unpacked once, whole, also by two processes at a time", () => {
      const cache = join(temporary, "cache-of-two");
      const line = `'${process.execPath}' '${program}' swiftshader`;
      const both = spawnSync("sh", ["-c", `${line} & ${line}; wait`], {
        encoding: "utf8",
        env: { ...process.env, FOOTHOLD_CACHE: cache },
      });
      assert.is(both.stdout.match(/"result":42/g)?.length, 2, both.stdout + both.stderr);
      assert.equal(readdirSync(join(cache, "swiftshader")), [reason.version]);
      assert.is(readdirSync(join(cache, "swiftshader", reason.version)).length, 3);
    });
    test("a damaged file in the cache is named", () => {
      const folder = join(temporary, "damaged", "swiftshader", reason.version);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "libvulkan.so.1"), "not a library");
      const { stdout } = run("swiftshader", { FOOTHOLD_CACHE: join(temporary, "damaged") });
      assert.match(stdout, folder);
      assert.match(stdout, "delete the folder");
    });
  }

  const lavapipe = "/usr/share/vulkan/icd.d/lvp_icd.json";
  if (!existsSync(lavapipe)) test.skip("lavapipe", `no ${lavapipe}`);
  else
    test("lavapipe is found by kind and by a part of its name, computes, and nothing else is printed", () => {
      for (const choice of ["lavapipe", "LLVMpipe"]) {
        const info = JSON.parse(run(choice).stdout);
        assert.is(info.label, "lavapipe");
        assert.is(info.result, 42);
        assert.match(info.name, "llvmpipe");
      }
    });

  test("an adapter that is not there is refused with what is there", () => {
    const text = run("no such adapter").stdout;
    assert.match(text, 'AdapterError: adapter: no adapter\'s name contains "no such adapter". This machine has ');
    if (existsSync(lavapipe)) assert.match(text, "llvmpipe (");
  });
  if (process.platform !== "linux") test.skip("Vulkan without a driver", "only on Linux does Dawn use Vulkan");
  else
    test("hardware and lavapipe are refused where Vulkan has no driver", () => {
      assert.match(run("hardware", nowhere).stdout, "AdapterError: adapter: expected a GPU, got ");
      assert.match(run("lavapipe", nowhere).stdout, "AdapterError: adapter: lavapipe is not on this machine.");
    });
  test("the null adapter checks shaders", async () => {
    const { openAdapter } = await import("../../../../engine/backends/webgpu/adapter.ts");
    const { opened } = await openAdapter({ adapter: "null" });
    assert.is(opened?.info.label, "null");
    const device = await opened?.adapter.requestDevice();
    if (!device) throw new Error("no device");
    const errorsOf = async (code: string) => {
      device.pushErrorScope("validation");
      const messages = (await device.createShaderModule({ code }).getCompilationInfo()).messages;
      await device.popErrorScope();
      return messages.filter((m) => m.type === "error").map((m) => m.lineNum);
    };
    assert.equal(await errorsOf("@compute @workgroup_size(1) fn main() {}"), []);
    assert.equal(await errorsOf("@compute @workgroup_size(1)\nfn main() { let x: f32 = 1u; }"), [2]);
    device.destroy();
  });

  const tar = spawnSync("tar", ["--version"]);
  if (tar.status !== 0) test.skip("tar archives", "no tar command");
  else
    test("reads what tar wrote, and refuses an archive that was cut", async () => {
      const folder = join(temporary, "tar");
      mkdirSync(join(folder, "inner"), { recursive: true });
      const contents = { empty: "", "inner/one-block": "x".repeat(512), more: "y".repeat(513) };
      for (const [name, text] of Object.entries(contents)) writeFileSync(join(folder, name), text);
      const archive = spawnSync("tar", ["cf", "-", "-C", folder, "empty", "inner", "more"]).stdout;
      const files = readTar(archive);
      assert.equal(
        Object.fromEntries([...files].map(([name, bytes]) => [name, Buffer.from(bytes).toString()])),
        contents,
      );
      const end = archive.lastIndexOf("y");
      readTar(archive.subarray(0, end + 1));
      await throwsMessage(() => readTar(archive.subarray(0, end)), "damaged at byte", "does not fit");
    });
});
