#!/usr/bin/env bash
# Node's process.stdout loses the end of the output without an error if the file behind it takes only a part of a write.
#
# With `> file` Node writes a chunk by one call of write(2), and looks at neither the number of bytes that the call wrote nor at
# the rest. On an almost full disk, or at a limit of the file's size, write(2) takes what fits and reports no error. So a
# program that prints one long JSON text ends with status 0, calls the callback of write without an error, and leaves a file
# that is cut off. Only a second write would fail. fs.writeFileSync goes on with the rest, and gets the error.
#
# Versions: Node 24.21.0 (npm package node), Linux. A limit of the shell (ulimit -f) stands for the full disk here.
# Seen, of a text of 20,000 bytes where the file may have 8,192:
#           process.stdout.write     status 0, callback without an error, 8192 bytes
#           fs.writeFileSync(1, …)   EFBIG, 8192 bytes
# Instead:  where standard output may be a file, write with fs.writeSync in a loop until all bytes are written.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error node@24.21.0 >npm.log 2>&1 ||
  missing "npm could not install the package: $(head -n 1 npm.log)"
node=$work/node_modules/node/bin/node
[ -x "$node" ] || missing "the package node has no program for this machine"

cat >stream.mjs <<'JS'
process.stdout.on("error", ({ code }) => console.error(`error ${code}`));
process.stdout.write("x".repeat(20000), (error) => console.error(`callback ${error?.code ?? "without an error"}`));
JS
cat >file.mjs <<'JS'
import { writeFileSync } from "node:fs";
try {
  writeFileSync(1, "x".repeat(20000));
  console.error("no error");
} catch ({ code }) {
  console.error(code);
}
JS
# One file of at most 8 KiB: the limit counts in KiB in bash.
limited() { (ulimit -f 8 && "$node" "$1" >"$2" 2>"$2.said") && echo 0 || echo "$?"; }
stream_status=$(limited stream.mjs stream.txt)
file_status=$(limited file.mjs file.txt)
stream="status $stream_status, $(cat stream.txt.said), $(($(wc -c <stream.txt))) bytes"
file="status $file_status, $(cat file.txt.said), $(($(wc -c <file.txt))) bytes"
echo "process.stdout.write:   $stream"
echo "fs.writeFileSync(1, …): $file"
[ "$stream" = "status 0, callback without an error, 8192 bytes" ] && [ "$file" = "status 0, EFBIG, 8192 bytes" ] || exit 1
