// Compiles every kernel, with each set of constants in use, on Dawn's null backend. That backend validates WGSL and
// pipelines at WebGPU's default limits, on any machine, and computes nothing.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { openAdapter } from "../engine/backends/webgpu/adapter.ts";
import { composeWgsl, sharedFile } from "../engine/backends/webgpu/compose.ts";
import { wantedFeatures } from "../engine/backends/webgpu/device.ts";
import { blockBytes, Pipelines } from "../engine/backends/webgpu/pipelines.ts";
import { asError } from "../engine/host/errors.ts";
import { type AnyKernel, type Constants, knownKernels } from "../engine/kernel.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const floors = ["engine", "model", "rl", "landscape"];

function filesOfFloors(ending: string): string[] {
  return floors
    .filter((floor) => existsSync(join(root, floor)))
    .flatMap((floor) =>
      readdirSync(join(root, floor), { recursive: true, encoding: "utf8" }).map((f) => join(floor, f)),
    )
    .filter((file) => file.endsWith(ending));
}

/** All kernels that the project defines. */
export async function allKernels(): Promise<readonly AnyKernel[]> {
  for (const file of filesOfFloors(".ts"))
    if (/\bdefineKernel\(/.test(readFileSync(join(root, file), "utf8")))
      await import(pathToFileURL(join(root, file)).href);
  return knownKernels();
}

/** The sets of constants of a kernel: the usual ones, and the usual ones overridden by each set of variants. */
export function formsOf(kernel: AnyKernel): Constants[] {
  const forms = [{}, ...kernel.variants].map((variant) => ({ ...kernel.constants, ...variant }));
  return [...new Map(forms.map((constants) => [JSON.stringify(constants), constants])).values()];
}

/** Compiles every variant; a warning counts as a problem. @returns the number of variants, and one line per problem */
export async function compileKernels(kernels: readonly AnyKernel[]): Promise<{ forms: number; problems: string[] }> {
  const { opened } = await openAdapter({ adapter: "null" });
  if (opened === null) throw new Error("Dawn's null backend could not be opened");
  const has = opened.adapter.features;
  const device = await opened.adapter.requestDevice({
    requiredFeatures: ([...has] as GPUFeatureName[]).filter((feature) => wantedFeatures.includes(feature)),
  });
  const uniforms = device.createBuffer({ size: blockBytes, usage: GPUBufferUsage.UNIFORM });
  const pipelines = new Pipelines(device, uniforms);
  const problems: string[] = [];
  let forms = 0;
  for (const kernel of kernels)
    for (const constants of formsOf(kernel)) {
      forms++;
      const form = `${kernel.name} ${JSON.stringify(constants)}`;
      const file = relative(root, fileURLToPath(kernel.wgsl));
      try {
        device.pushErrorScope("validation");
        const module = device.createShaderModule({ label: form, code: composeWgsl(kernel, constants) });
        const { messages } = await module.getCompilationInfo();
        await device.popErrorScope();
        for (const { type, lineNum, message } of messages)
          problems.push(`${file}:${lineNum}: ${type}: ${message} (${form})`);
        if (messages.some(({ type }) => type === "error")) continue;
        device.pushErrorScope("validation");
        pipelines.pipeline(kernel, constants);
        const error = await device.popErrorScope();
        if (error !== null) problems.push(`${file}: ${error.message} (${form})`);
      } catch (thrown) {
        problems.push(`${file}: ${asError(thrown).message} (${form})`);
      }
    }
  device.destroy();
  return { forms, problems };
}

/** WGSL files that no kernel uses, neither as its body nor for a shared function. */
export function unusedShaders(kernels: readonly AnyKernel[]): string[] {
  const used = new Set(
    kernels.flatMap((kernel) =>
      [kernel.wgsl, ...kernel.uses.map((name) => sharedFile(kernel, name))].map((url) =>
        relative(root, fileURLToPath(url)),
      ),
    ),
  );
  return filesOfFloors(".wgsl").filter((file) => !used.has(file));
}
