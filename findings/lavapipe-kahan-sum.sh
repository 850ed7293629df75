#!/usr/bin/env bash
# On Mesa's lavapipe, Kahan's compensated summation in WGSL gives exactly the plain sum: the compensation is compiled
# away.
#
# Kahan's summation computes the rounding error of an addition as (t - s) - v, with t = s + v. Mesa's compiler may
# reorder sums in a shader: it turns t - s into v, and the error into 0. There is no error and no warning, and WGSL has
# no keyword that forbids this.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on lavapipe of Mesa 25.0.7 (26.1.6 does the same).
# Seen, for 1 followed by a thousand times 1e-8 (the true sum is 1.00001):
#           plain 1   Kahan 1   Kahan with its bits taken through xor 1.0000100135803223
# Instead:  hide the intermediate sum from the compiler: take its bits, xor them with a 0 that is read from a buffer, and
#           continue with the result. Or sum in pairs (a tree), which needs no compensation.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
driver=
for file in /usr/share/vulkan/icd.d/lvp_icd*.json /etc/vulkan/icd.d/lvp_icd*.json; do
  if [ -e "$file" ]; then driver=$file; fi
done
[ -n "$driver" ] || missing "Mesa's lavapipe is not installed (Debian and Ubuntu: mesa-vulkan-drivers, libvulkan1)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error webgpu@0.6.2 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"

cat >try.mjs <<'JS'
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
const gpu = create(["adapter=llvmpipe"]);
const adapter = await gpu.requestAdapter().catch(() => null);
if (!adapter) {
  console.error("cannot run: Dawn found no adapter named llvmpipe");
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

const kahan = (sum) => `
  let zero = bitcast<u32>(x[0]); // 0, but the compiler cannot know
  var s = 0.0;
  var lost = 0.0;
  for (var i = 1u; i < arrayLength(&x); i++) {
    let v = x[i] - lost;
    let t = ${sum};
    lost = (t - s) - v;
    s = t;
  }
  y[0] = s;`;
const numbers = [0, 1, ...Array(1000).fill(1e-8)];
const [plain] = await compute("var s = 0.0; for (var i = 1u; i < arrayLength(&x); i++) { s += x[i]; } y[0] = s;", numbers);
const [compensated] = await compute(kahan("s + v"), numbers);
const [hidden] = await compute(kahan("bitcast<f32>(bitcast<u32>(s + v) ^ zero)"), numbers);
console.log(adapter.info.description);
console.log(`plain ${plain}, Kahan ${compensated}, Kahan with hidden sum ${hidden}`);
process.exit(plain === 1 && compensated === 1 && Math.abs(hidden - 1.00001) < 1e-6 ? 0 : 1);
JS
export VK_ICD_FILENAMES="$driver" XDG_RUNTIME_DIR="$work" MESA_SHADER_CACHE_DISABLE=true
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
