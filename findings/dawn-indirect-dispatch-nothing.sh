#!/usr/bin/env bash
# An indirect dispatch of more than 65,535 workgroups runs none of them, and Dawn reports no error.
#
# The same count in a direct dispatch gives a visible validation error. In an indirect dispatch the count is known only
# on the GPU: Dawn inserts a small check before the dispatch, which replaces a count above the limit by 0. The output is
# unchanged: zeros if the buffer is new.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Seen:     indirect 65535: 65535 workgroups ran, error none
#           indirect 65536:     0 workgroups ran, error none
#           direct   65536:     0 workgroups ran, error "Dispatch workgroup count X (65536) exceeds ..."
# Instead:  let the shader that writes the count spread it over x and y, and let the kernel skip surplus workgroups.
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
  console.error("cannot run: Dawn found no adapter named SwiftShader");
  process.exit(2);
}
const device = await adapter.requestDevice();
const code = `
  @group(0) @binding(0) var<storage, read_write> ran: atomic<u32>;
  @compute @workgroup_size(1) fn main() { atomicAdd(&ran, 1u); }`;
const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });

async function dispatch(way, count) {
  const counter = device.createBuffer({ size: 4, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const copy = device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const counts = device.createBuffer({ size: 12, usage: GPUBufferUsage.INDIRECT, mappedAtCreation: true });
  new Uint32Array(counts.getMappedRange()).set([count, 1, 1]);
  counts.unmap();
  device.pushErrorScope("validation");
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer: counter } }];
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  if (way === "indirect") pass.dispatchWorkgroupsIndirect(counts, 0);
  else pass.dispatchWorkgroups(count);
  pass.end();
  encoder.copyBufferToBuffer(counter, 0, copy, 0, 4);
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  await copy.mapAsync(GPUMapMode.READ);
  const [ran] = new Uint32Array(copy.getMappedRange());
  console.log(`${way} ${count}: ${ran} workgroups ran, error ${error ? error.message.split("\n")[0] : "none"}`);
  return { ran, error };
}

const below = await dispatch("indirect", 65535);
const above = await dispatch("indirect", 65536);
const direct = await dispatch("direct", 65536);
process.exit(below.ran === 65535 && above.ran === 0 && above.error === null && direct.error !== null ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
