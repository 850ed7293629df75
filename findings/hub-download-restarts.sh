#!/usr/bin/env bash
# npm @huggingface/hub keeps the part of a file that a broken transfer left, but then downloads the file from its first
# byte again.
#
# The part stays in the cache as `<hash>.incomplete`, so one expects the download to resume there. But the next call of
# downloadFileToCacheDir overwrites it and requests the whole file. Nor does a call retry: it rejects with "terminated".
# On an unreliable connection a file of 10 GB may never arrive.
#
# Versions: npm @huggingface/hub 2.17.5.
# Seen, with a small server in the script that breaks off the first transfer at half of the file:
#           call 1: rejects, 1000000 bytes kept in the cache
#           call 2: asks for the whole file again (no Range header of "bytes=1000000-")
# Instead:  fetch large files with a tool that resumes, such as `curl --continue-at -`, and read them from the disk.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error @huggingface/hub@2.17.5 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"

cat >try.mjs <<'JS'
import { createServer } from "node:http";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { downloadFileToCacheDir } from "@huggingface/hub";

const body = Buffer.alloc(2_000_000, 7);
const hash = "ab".repeat(32);
const entry = {
  type: "file", path: "weights.bin", size: body.length, oid: "aa".repeat(20),
  lfs: { oid: hash, size: body.length, pointerSize: 130 },
  lastCommit: { id: "bb".repeat(20), title: "first", date: "2024-01-01T00:00:00.000Z" },
};
let transfers = []; // where each transfer of content began
let broken = false;
const server = createServer((request, response) => {
  if (request.method === "POST") {
    request.resume().on("end", () => response.setHeader("content-type", "application/json").end(JSON.stringify([entry])));
    return;
  }
  const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "");
  const first = Number(range?.[1] ?? 0);
  const last = Number(range?.[2] || body.length - 1);
  const part = body.subarray(first, last + 1);
  response.setHeader("etag", `"${hash}"`).setHeader("content-length", part.length);
  if (range) response.setHeader("content-range", `bytes ${first}-${last}/${body.length}`).statusCode = 206;
  if (part.length > 1) transfers.push(first); // one byte is only the question how long the file is
  if (part.length > 1 && !broken) {
    broken = true;
    response.write(part.subarray(0, 1_000_000));
    setTimeout(() => response.destroy(), 500);
  } else response.end(part);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

async function download() {
  transfers = [];
  const hubUrl = `http://127.0.0.1:${server.address().port}`;
  const download = downloadFileToCacheDir({ repo: "some/model", path: "weights.bin", revision: "main", hubUrl, cacheDir: "cache" });
  return download.then(() => "arrived", () => "rejected");
}
const first = await download();
const blobs = join("cache", "models--some--model", "blobs");
const kept = readdirSync(blobs).filter((name) => name.endsWith(".incomplete")).map((name) => statSync(join(blobs, name)).size);
const second = await download();
process.stdout.write(`call 1: ${first}, bytes kept: ${kept.join()}\ncall 2: ${second}, transfers began at byte: ${transfers.join()}\n`);
server.close();
server.closeAllConnections();
process.exitCode = first === "rejected" && kept[0] > 0 && second === "arrived" && transfers.join() === "0" ? 0 : 1;
JS
node try.mjs
