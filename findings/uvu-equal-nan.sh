#!/usr/bin/env bash
# uvu's assert.equal finds a NaN equal to itself in an array, but not in a typed array; and it finds any two errors equal.
#
# Array elements are compared one by one, with a rule for NaN. Typed arrays are compared with === alone, so two copies of the same
# bits differ as soon as one of them is a NaN, and the diff of the failure marks no line. In both, 0 equals −0. Objects are compared by
# their own enumerable keys, and an Error has none: two errors with different messages are equal. A test of numeric code fails
# where nothing is wrong, and a test of error messages passes where everything is.
#
# Versions: npm uvu 0.5.6 with dequal 2.0.3.
# Seen:     [NaN], [NaN]                                       equal
#           Float32Array [NaN], Float32Array [NaN]             not equal
#           Float32Array [0], Float32Array [−0]                equal
#           Error("first"), Error("second")                    equal
# Instead:  compare typed arrays by their bits (the bytes of both in a Uint8Array), and errors by their messages.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error uvu@0.5.6 dequal@2.0.3 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"

cat >try.mjs <<'JS'
import { equal } from "uvu/assert";

const cases = [
  ["[NaN], [NaN]", [NaN], [NaN], true],
  ["Float32Array [NaN], Float32Array [NaN]", new Float32Array([NaN]), new Float32Array([NaN]), false],
  ["Float32Array [0], Float32Array [-0]", new Float32Array([0]), new Float32Array([-0]), true],
  ['Error("first"), Error("second")', new Error("first"), new Error("second"), true],
];
let asStated = true;
for (const [name, actual, expected, stated] of cases) {
  let same = true;
  try {
    equal(actual, expected);
  } catch {
    same = false;
  }
  console.log(`${name.padEnd(40)} ${same ? "equal" : "not equal"}`);
  asStated &&= same === stated;
}
process.exit(asStated ? 0 : 1);
JS
node try.mjs
