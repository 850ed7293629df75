#!/usr/bin/env bash
# A device's adapterInfo lists no matrix shapes, although its adapter lists them.
#
# WebGPU gives a device the same description of its adapter: device.adapterInfo and adapter.info. Dawn's experimental
# list of matrix shapes, subgroupMatrixConfigs, is filled in the adapter's own info only. In the device's it is an empty
# array, also when the device was opened with the feature. So code that gets a device alone concludes that there are no
# matrix units, and nothing says otherwise.
#
# Versions: npm webgpu 0.6.2 (Dawn on Node), on lavapipe of Mesa 26.1.6 (Debian 13 backports).
# Seen:     adapter.info lists 4 shapes, device.adapterInfo lists 0
# Instead:  read adapter.info before the device is opened, and keep the list beside the device.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error webgpu@0.6.2 >npm.log 2>&1 ||
  missing "npm could not install the package: $(head -n 1 npm.log)"

cat >try.mjs <<'JS'
import { create } from "webgpu";

const feature = "chromium-experimental-subgroup-matrix";
const gpu = create(["enable-dawn-features=allow_unsafe_apis"]);
const adapter = await gpu.requestAdapter().catch(() => null);
if (!adapter?.features.has(feature)) {
  console.error("cannot run: no adapter with matrix units (a GPU that has them, or lavapipe of Mesa 26 or newer)");
  process.exit(2);
}
const device = await adapter.requestDevice({ requiredFeatures: [feature] });
const own = adapter.info.subgroupMatrixConfigs.length;
const ofDevice = device.adapterInfo.subgroupMatrixConfigs?.length ?? 0;
console.log(`adapter.info lists ${own} shapes, device.adapterInfo lists ${ofDevice}`);
device.destroy();
process.exitCode = own > 0 && ofDevice === 0 ? 0 : 1;
JS
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work}
code=0
node try.mjs || code=$?
[ "$code" = 0 ] || [ "$code" = 2 ] || echo "the behaviour has changed" >&2
exit "$code"
