#!/usr/bin/env bash
# On Mesa's lavapipe, a compute pipeline made by createComputePipelineAsync is not compiled yet: its first dispatch
# compiles it.
#
# By WebGPU's specification the promise resolves when the pipeline can be used without further delay. So programs create
# their pipelines early, while they load something else. Dawn has called the driver by then, but lavapipe only translates
# the shader into an intermediate form. LLVM makes the machine code, nine tenths of the work, at the first dispatch: the
# delay is still there, and creating early saves almost nothing.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on lavapipe of Mesa 25.0.7 (26.1.6 does the same).
# Seen, for a kernel of 200 steps, in milliseconds of processor time (other programs hardly change it):
#           created in 73, then first dispatch 1211, second 11
#           created in 59, then dispatch of no workgroups 990, first real one 12
# Instead:  after creating a pipeline, dispatch it once with no workgroups. This compiles it and computes nothing. An
#           indirect dispatch whose counts are 0 does it without the warning that Dawn prints for dispatchWorkgroups(0).
#           (Mesa's cache on the disk, which is off in this script, saves the work in later processes.)
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
const noWorkgroups = device.createBuffer({ size: 12, usage: GPUBufferUsage.INDIRECT }); // three zeros
const buffer = device.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE });

/** Milliseconds of processor time, all threads of the process. */
async function cost(work) {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const make = (body) => device.createComputePipelineAsync({
  layout: "auto",
  compute: { module: device.createShaderModule({ code: `
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(1) fn main() { var v = x[0]; ${body} x[0] = v; }` }) },
});

async function dispatch(pipeline, workgroups) {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] }));
  if (workgroups > 0) pass.dispatchWorkgroups(workgroups);
  else pass.dispatchWorkgroupsIndirect(noWorkgroups, 0);
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
}

/** A kernel of 200 steps; `other` makes it another one. */
const long = (other) => Array.from({ length: 200 }, (_, i) =>
  `v = fma(v, x[${i % 64}], sin(v + ${i + other})); if (v > ${i}) { v = v * x[${(7 * i) % 64}]; }`).join("\n");

// The very first dispatch of a device costs more than others: it is not counted.
const trivial = await make("v += 1;");
for (let i = 0; i < 3; i++) await dispatch(trivial, 1);

async function costs(body, workgroups) {
  let pipeline;
  const created = await cost(async () => { pipeline = await make(body); });
  const rest = [];
  for (const count of workgroups) rest.push(await cost(() => dispatch(pipeline, count)));
  return [created, ...rest];
}
const [created, first, second] = await costs(long(0.5), [1, 1]);
const [createdToo, none, real] = await costs(long(0.25), [0, 1]);
const shown = (ms) => ms.toFixed(0);
console.log(adapter.info.description);
console.log(`created in ${shown(created)}, then first dispatch ${shown(first)}, second ${shown(second)}`);
console.log(`created in ${shown(createdToo)}, then dispatch of no workgroups ${shown(none)}, first real one ${shown(real)}`);
process.exit(first > 3 * created && first > 5 * second && none > 5 * real ? 0 : 1);
JS
export VK_ICD_FILENAMES="$driver" XDG_RUNTIME_DIR="$work" MESA_SHADER_CACHE_DISABLE=true
node try.mjs 2>messages || { code=$?; cat messages >&2; exit $code; }
