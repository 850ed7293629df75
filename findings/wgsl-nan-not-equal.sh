#!/usr/bin/env bash
# In WGSL on Dawn, `n != n` is false for a NaN, so the usual test for a NaN never finds one.
#
# IEEE 754 says that a NaN differs from everything, including itself. Dawn emits the "ordered" form of `!=`, which is
# false if an operand is NaN. So `n == n` and `n != n` are both false, and `!(n == n)` is not the same as `n != n`.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Seen, for a NaN that the shader reads from a buffer (1 is true):
#           n != n  0      n != 1.0  0      !(n == n)  1      (bits & 0x7fffffff) > 0x7f800000  1
# Instead:  test the bits of the number. `!(n == n)` works here too, but WGSL lets a compiler assume that there is no NaN.
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

const tests = {
  "n != n": 0,
  "n != 1.0": 0,
  "!(n == n)": 1,
  "(bitcast<u32>(n) & 0x7fffffffu) > 0x7f800000u": 1,
};
let asStated = true;
for (const [test, stated] of Object.entries(tests)) {
  const [ofNaN] = await compute(`let n = x[0]; y[0] = f32(${test});`, [NaN]);
  console.log(test.padEnd(48), ofNaN);
  asStated &&= ofNaN === stated;
}
process.exit(asStated ? 0 : 1);
JS
export LD_LIBRARY_PATH="$work" VK_ICD_FILENAMES="$work/vk_swiftshader_icd.json" XDG_RUNTIME_DIR="$work"
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
