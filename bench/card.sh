#!/bin/sh
# Runs bench/card.ts on a machine that has little more than a GPU driver. Arguments are those of bench/card.ts.
#
#   sh bench/card.sh --out card.json
#
# Node: the one in node_modules (npm ci installs it), else the one on PATH, 22.18 or newer. Nothing is installed.
set -eu
cd "$(dirname "$0")/.."
if [ -x node_modules/node/bin/node ]; then node=node_modules/node/bin/node
elif command -v node >/dev/null 2>&1; then node=node
else
  echo "card: expected Node on PATH or in node_modules, got none. Run npm ci, or copy node_modules from a machine where it ran." >&2
  exit 2
fi
[ -d node_modules/webgpu ] || {
  echo "card: expected the packages in node_modules, got none. Run npm ci, or copy node_modules from a machine where it ran." >&2
  exit 2
}
if command -v ldconfig >/dev/null 2>&1 && ! ldconfig -p | grep -q libvulkan.so.1; then
  echo "card: this machine has no Vulkan loader (libvulkan.so.1), so no GPU will be found. On Debian: apt-get install libvulkan1" >&2
fi
if command -v nvidia-smi >/dev/null 2>&1; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader >&2 || true
fi
exec "$node" bench/card.ts "$@"
