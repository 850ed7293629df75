// Shows that each shader check of `npm run check` can fail. Needs no adapter.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { AnyKernel } from "../engine/kernel.ts";
import { compileKernels, formsOf, unusedShaders } from "./shaders.ts";
import { describe } from "./support.ts";

const body = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.rows * COUNT) { x[params.xBase + id.x] = 1.0; }
}
`;

describe("test/shaders", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-shaders-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  let files = 0;

  /** A made-up kernel with this WGSL text. */
  function kernelOf(text: string, own: Partial<AnyKernel> = {}): AnyKernel {
    const path = join(folder, `${files++}.wgsl`);
    writeFileSync(path, text);
    return {
      name: "made-up",
      axes: { rows: "map" },
      bindings: { x: { access: "write", axis: "rows" } },
      params: {},
      constants: { COUNT: 1 },
      variants: [],
      uses: [],
      wgsl: pathToFileURL(path),
      cpu: () => {},
      workgroups: () => [1],
      ...own,
    };
  }

  async function problemsOf(...kernels: AnyKernel[]): Promise<string> {
    return (await compileKernels(kernels)).problems.join("\n");
  }

  test("a sound kernel is compiled once for each set of constants", async () => {
    const kernel = kernelOf(body, { variants: [{ COUNT: 2 }, { COUNT: 1 }, { COUNT: 3 }] });
    assert.deepEqual(formsOf(kernel), [{ COUNT: 1 }, { COUNT: 2 }, { COUNT: 3 }]);
    assert.deepEqual(await compileKernels([kernel]), { forms: 3, problems: [] });
  });
  test("a mistake is found, with its line", async () =>
    assert.match(await problemsOf(kernelOf(body.replace("1.0", "1u"))), /\d\.wgsl:4: error: .*\(made-up/));
  test("a warning is found", async () =>
    assert.match(await problemsOf(kernelOf(body.replace("{ x[", "{ return; x["))), /warning: code is unreachable/));
  test("a mistake in one variant is found", async () => {
    const problems = await problemsOf(kernelOf(body, { variants: [{ COUNT: true }] }));
    assert.match(problems, /error: .*"COUNT":true/s);
    assert.doesNotMatch(problems, /"COUNT":1/);
  });
  test("bindings other than the contract's are found", async () =>
    assert.match(
      await problemsOf(kernelOf(body, { bindings: { x: { access: "read" } } })),
      /made-up: its WGSL declares bindings \(0 read_write x\), its contract \(0 read x\)/,
    ));
  test("a workgroup above WebGPU's default limit is found", async () =>
    assert.match(await problemsOf(kernelOf(body.replace("64", "512"))), /512/));
  test("after a broken kernel the next one is compiled all the same", async () => {
    const { forms, problems } = await compileKernels([kernelOf("fn"), kernelOf(body)]);
    assert.equal(forms, 2);
    assert.equal(problems.length, 1);
  });
  test("a file that no kernel uses is found", () => {
    const unused = unusedShaders([]);
    assert.ok(unused.includes("engine/accumulate.wgsl") && unused.includes("engine/ops/shared/philox.wgsl"));
  });
});
