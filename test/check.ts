// npm run check: what needs no adapter, in under a minute. Types, lint and format, the floor plan, and every kernel compiled
// on Dawn's null backend, which validates WGSL on any machine and computes nothing.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { AnyKernel, Constants } from "../engine/kernel.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
let passed = 0;
let failed = 0;

function report(name: string, start: number, problems: readonly string[]): void {
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${problems.length === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  for (const problem of problems) console.log(problem);
  if (problems.length === 0) passed++;
  else failed++;
}

function command(name: string, file: string, ...flags: string[]): void {
  const start = performance.now();
  const run = spawnSync(process.execPath, [file, ...flags], { cwd: root, encoding: "utf8" });
  report(name, start, run.status === 0 ? [] : [`${run.stdout}${run.stderr}`.trim()]);
}

command("types", "node_modules/typescript/bin/tsc", "--noEmit");
command("lint and format", "node_modules/@biomejs/biome/bin/biome", "check", ".");
command("floor plan", "test/floor-plan.test.ts");

const start = performance.now();
const { openAdapter } = await import("../engine/webgpu/adapter.ts");
const { composeWgsl } = await import("../engine/webgpu/compose.ts");
const { knownKernels } = await import("../engine/kernel.ts");
for (const folder of ["ops", "optim"])
  for (const file of readdirSync(`${root}/engine/${folder}`))
    if (file.endsWith(".ts") && !file.endsWith(".cpu.ts")) await import(`../engine/${folder}/${file}`);

/** The constants that code chooses beside a kernel's usual ones. */
function variants(kernel: AnyKernel): Constants[] {
  const more: Constants[] = [{}];
  if (kernel.name.startsWith("attention"))
    for (const [width, vectors, heads] of [
      [4, 4, 1],
      [4, 16, 7],
      [4, 32, 1],
      [2, 7, 3],
      [2, 11, 1],
    ])
      more.push({
        Vector: `vec${width}f`,
        WIDTH: width,
        VECTORS: vectors,
        ...("HEADS" in kernel.constants ? { HEADS: heads } : {}),
      });
  if ("LANES" in kernel.constants && !kernel.name.startsWith("multiply"))
    for (const LANES of [1, 4, 8, 64]) more.push({ LANES });
  if (kernel.name.startsWith("multiply") && "ROWS" in kernel.constants) more.push({ ROWS: 1 });
  return more.map((constants) => ({ ...kernel.constants, ...constants }));
}

const opened = await openAdapter({ adapter: "null" });
if (opened === null) report("kernels", start, ["Dawn has no null backend here"]);
else {
  const features = [...opened.adapter.features].filter(
    (f) => f === "subgroups" || f === "shader-f16",
  ) as GPUFeatureName[];
  const device = await opened.adapter.requestDevice({ requiredFeatures: features });
  const problems: string[] = [];
  let compiled = 0;
  for (const kernel of knownKernels())
    for (const constants of variants(kernel)) {
      const module = device.createShaderModule({ code: composeWgsl(kernel, constants) });
      compiled++;
      for (const { type, message, lineNum } of (await module.getCompilationInfo()).messages)
        if (type === "error")
          problems.push(`  ${kernel.name} ${JSON.stringify(constants)}: line ${lineNum}: ${message}`);
    }
  report(`${compiled} variants of ${knownKernels().length} kernels compile`, start, problems);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
