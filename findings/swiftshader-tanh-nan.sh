#!/usr/bin/env bash
# On SwiftShader, WGSL's tanh() of a number above 88.8 is NaN, and tanh() of a tiny number is wrong by up to 19%.
#
# tanh is bounded, so one expects 1 for every large number and x for every tiny one. The results look as if tanh were
# computed as a quotient of exponentials: for a large number both overflow; for a tiny one their difference loses its
# digits. The usual tanh form of GELU gets such arguments from ordinary activations (an activation of 14 gives
# tanh(109)).
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0. Seen:
# tanh(88) = 1   tanh(100) = NaN   tanh(-100) = NaN   tanh(2e-7) = 2.38e-7 Instead:  clamp the argument to -10..10 first
# (tanh(10) is 1 in f32), and use x itself if its magnitude is below 0.001.
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

const each = (expression) => `for (var i = 0u; i < arrayLength(&x); i++) { y[i] = ${expression}; }`;
const numbers = [88, 100, -100, 2e-7];
const plain = await compute(each("tanh(x[i])"), numbers);
const clamped = await compute(each("tanh(clamp(x[i], -10.0, 10.0))"), numbers);
numbers.forEach((number, i) => console.log(`tanh(${number}) = ${plain[i]}, with its argument clamped ${clamped[i]}`));
const off = Math.abs(plain[3] / 2e-7 - 1);
const asStated = plain[0] === 1 && Number.isNaN(plain[1]) && Number.isNaN(plain[2]) && off > 0.1;
process.exit(asStated && clamped[1] === 1 && clamped[2] === -1 ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
