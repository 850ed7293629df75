#!/usr/bin/env bash
# Choosing a Vulkan driver by process.env in a Node worker has no effect: Dawn silently opens another driver there, or
# none.
#
# In the main thread `process.env.VK_ICD_FILENAMES = ...` works, because Node writes it to the process's real
# environment, where the Vulkan loader reads it. In a worker, process.env is a copy that only JavaScript sees. If the
# same line is moved into a worker, the program computes on another device, at another speed and with different
# rounding.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), SwiftShader 5.0.0 from npm @sparticuz/chromium 147.0.0.
# Seen, with the same lines in both places:
#           main thread: swiftshader-device-subzero-     worker: none (or the machine's own driver, such as llvmpipe)
# Instead:  set the variable in the shell, or in the main thread before the worker opens its adapter; and check
#           `adapter.info` after opening.
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
import { Worker, isMainThread, parentPort } from "node:worker_threads";
import { create } from "webgpu";

async function open() {
  process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES = `${process.cwd()}/vk_swiftshader_icd.json`;
  const gpu = create([]);
  const adapter = await gpu.requestAdapter().catch(() => null);
  return adapter ? adapter.info.device : "none";
}

if (!isMainThread) parentPort.postMessage(await open());
else if (process.argv[2] === "main") console.log(await open());
else console.log(await new Promise((resolve) => new Worker(new URL(import.meta.url)).once("message", resolve)));
JS
export LD_LIBRARY_PATH="$work" XDG_RUNTIME_DIR="$work"
main=$(node try.mjs main 2>messages) || missing "$(tail -n 1 messages)"
worker=$(node try.mjs worker 2>>messages) || missing "$(tail -n 1 messages)"
echo "main thread: $main     worker: $worker"
[[ $main == swiftshader* && $worker != swiftshader* ]]
