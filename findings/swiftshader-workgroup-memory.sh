#!/usr/bin/env bash
# On SwiftShader, a WGSL kernel that declares 16 KiB of workgroup memory takes a second to compile and runs dozens of
# times as long, though it uses 256 bytes of that memory.
#
# WebGPU promises that workgroup memory starts as zeros, so Dawn puts code that writes them before the kernel's first
# line. On a GPU this is not noticeable. Here the zeros cost more than the kernel, and the tiled matrix product that is
# fastest on a GPU can be the slowest.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Seen on two cores (128 workgroups of 64 invocations; the times vary, the order does not):
#           256 bytes             compiled in   20 ms, ran in   1.2 ms
#           16 KiB                compiled in 1216 ms, ran in  56.3 ms
#           16 KiB without zeros  compiled in    3 ms, ran in   1.4 ms
# Instead:  declare no more workgroup memory than you use, keep it out of kernels for software drivers, or, if the kernel
#           writes before it reads, create the instance with "enable-dawn-features=allow_unsafe_apis,disable_workgroup_init".
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
[ "$(uname -sm)" = "Linux x86_64" ] || missing "this needs Linux on x86-64, for which npm has SwiftShader"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error webgpu@0.6.2 @sparticuz/chromium@147.0.0 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"
node -e 'process.stdout.write(zlib.brotliDecompressSync(fs.readFileSync("node_modules/@sparticuz/chromium/bin/swiftshader.tar.br")))' | tar xf -

cat >try.mjs <<'JS'
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
const kept = []; // an instance must stay reachable while its device is used

async function time(name, floats, ...flags) {
  const gpu = create(["adapter=SwiftShader", ...flags]);
  kept.push(gpu);
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) {
    console.error("cannot run: Dawn found no adapter named SwiftShader");
    process.exit(2);
  }
  const device = await adapter.requestDevice();
  const code = `
    @group(0) @binding(0) var<storage, read_write> out: array<f32, 64>;
    var<workgroup> memory: array<f32, ${floats}>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
      memory[i] = f32(i);
      workgroupBarrier();
      out[i] = memory[63u - i];
    }`;
  const start = performance.now();
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
  const compiled = performance.now() - start;
  const buffer = device.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  let ran = Infinity; // the best of five
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(128);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    ran = Math.min(ran, performance.now() - start);
  }
  console.log(`${name.padEnd(22)}compiled in ${compiled.toFixed(0).padStart(4)} ms, ran in ${ran.toFixed(1).padStart(5)} ms`);
  return { compiled, ran };
}

const small = await time("256 bytes", 64);
const large = await time("16 KiB", 4096);
const withoutZeros = await time("16 KiB without zeros", 4096, "enable-dawn-features=allow_unsafe_apis,disable_workgroup_init");
const slower = (a, b) => a.compiled > 4 * b.compiled && a.ran > 4 * b.ran;
process.exit(slower(large, small) && slower(large, withoutZeros) ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
