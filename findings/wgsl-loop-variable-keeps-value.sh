#!/usr/bin/env bash
# A WGSL variable declared inside a loop without an initial value keeps its value from the previous iteration.
#
# WGSL says that `var s: f32;` is zero each time the declaration is reached. Dawn's compiler (Tint) instead makes it a
# SPIR-V variable at the top of the function, which is initialised once per call, and writes no zero in the loop. So the
# cause is the compiler, not one driver. By the language's rules `= 0.0` changes nothing, yet it changes the result.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Expected: each of four iterations adds 1 to a new `s`, so 1,1,1,1.
# Seen:     var s: f32;        1,2,3,4
#           var s: f32 = 0.0;  1,1,1,1
# Instead:  give every `var` in a loop an initial value; typically a counter in the outer of two loops is affected.
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
const gpu = create(["adapter=SwiftShader"]);
const adapter = await gpu.requestAdapter().catch(() => null);
if (!adapter) {
  console.error("cannot run: Dawn found no SwiftShader");
  process.exit(2);
}
const device = await adapter.requestDevice();

async function rounds(declaration) {
  const code = `
    @group(0) @binding(0) var<storage, read_write> seen: array<f32, 4>;
    @compute @workgroup_size(1) fn main() {
      for (var i = 0u; i < 4u; i++) {
        ${declaration}
        s += 1.0;
        seen[i] = s;
      }
    }`;
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
  const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const copy = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, copy, 0, 16);
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(GPUMapMode.READ);
  const values = new Float32Array(copy.getMappedRange()).join();
  console.log(declaration.padEnd(18), values);
  return values;
}

const without = await rounds("var s: f32;");
const withZero = await rounds("var s: f32 = 0.0;");
process.exit(without === "1,2,3,4" && withZero === "1,1,1,1" ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
