#!/usr/bin/env bash
# On SwiftShader, WGSL's log() gives an ordinary number for 0, for a negative number and for NaN.
#
# One expects -infinity, NaN and NaN, so that a broken loss is visible. Here -log(p) of a probability that became 0 is
# an ordinary 88, log(-2) is log(2), and log(NaN) is 89. Training continues with a wrong number.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Seen:     log(0) = -88.03   log(-2) = 0.6931   log(NaN) = 89.13   (log(2) = 0.6931)
# Instead:  test the argument before log(), or write your own logarithm. Do not rely on a NaN to show a mistake.
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

/** Runs `body`, which reads the numbers x and writes one result for each to y. */
async function compute(body, numbers) {
  const x = Float32Array.from(numbers);
  const code = `
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn main() { ${body} }`;
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
  const make = (usage, mappedAtCreation = false) => device.createBuffer({ size: x.byteLength, usage, mappedAtCreation });
  const input = make(GPUBufferUsage.STORAGE, true);
  new Float32Array(input.getMappedRange()).set(x);
  input.unmap();
  const output = make(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
  const copy = make(GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  const entries = [input, output].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(output, 0, copy, 0, x.byteLength);
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(GPUMapMode.READ);
  return [...new Float32Array(copy.getMappedRange())];
}

const numbers = [0, -2, NaN, 2];
const logs = await compute("for (var i = 0u; i < arrayLength(&x); i++) { y[i] = log(x[i]); }", numbers);
numbers.forEach((number, i) => console.log(`log(${number}) = ${logs[i]}`));
const near = (value, stated) => Math.abs(value - stated) < 0.01;
process.exit([-88.03, 0.693, 89.13, 0.693].every((stated, i) => near(logs[i], stated)) ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
