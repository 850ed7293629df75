#!/usr/bin/env bash
# @resvg/resvg-js paints every colour that it cannot parse as solid black, even if it is valid CSS and half transparent.
#
# It knows the colours of SVG 1.1 and CSS 3. Every browser paints `rgb(255 0 0 / 50%)`, `hsl(10deg 50% 50%)`, `var(--c)`
# and `rebeccapurple`, but resvg silently drops the attribute, and the default fill is black. A figure looks right in
# the browser and has black areas as PNG.
#
# Versions: npm @resvg/resvg-js 2.6.2.
# Seen, as red, green, blue, alpha of one pixel:
#           rgba(255,0,0,.5)     127,0,0,127 (resvg multiplies by alpha)
#           rgb(255 0 0 / 50%)   0,0,0,255
#           hsl(10,50%,50%)      191,85,63,255
#           hsl(10deg 50% 50%)   0,0,0,255
#           rebeccapurple        0,0,0,255
#           var(--c)             0,0,0,255
# Instead:  write colours as #rrggbb and set transparency by fill-opacity; both work everywhere.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error @resvg/resvg-js@2.6.2 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"

cat >try.mjs <<'JS'
import { Resvg } from "@resvg/resvg-js";

function paint(fill) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4">
    <style>:root { --c: red }</style><rect width="4" height="4" fill="${fill}"/></svg>`;
  const pixel = [...new Resvg(svg).render().pixels.subarray(0, 4)].join();
  console.log(fill.padEnd(20), pixel);
  return pixel;
}

const read = ["rgba(255,0,0,.5)", "hsl(10,50%,50%)"].map(paint);
const unread = ["rgb(255 0 0 / 50%)", "hsl(10deg 50% 50%)", "rebeccapurple", "var(--c)"].map(paint);
process.exit(!read.includes("0,0,0,255") && unread.every((pixel) => pixel === "0,0,0,255") ? 0 : 1);
JS
node try.mjs
