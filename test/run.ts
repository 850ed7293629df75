// Runs every test file in one process (one device, one set of pipelines), then prints the ten slowest tests, every skip
// with its reason, and a closing line "N passed, N failed, N skipped".
//
//   node test/run.ts [--slow] [TEXT …]      only files whose path contains one of the texts
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

declare global {
  var UVU_DEFER: number | undefined;
  var UVU_INDEX: number | undefined;
  var UVU_QUEUE: [string | null, ...unknown[]][];
}

const root = fileURLToPath(new URL("..", import.meta.url));
const slow = process.argv.includes("--slow");
const wanted = process.argv.slice(2).filter((a) => !a.startsWith("--"));
const ending = slow ? ".slow.ts" : ".test.ts";
const files = readdirSync(`${root}/test`, { recursive: true, encoding: "utf8" })
  .filter((f) => f.endsWith(ending) && !f.includes("node_modules") && !f.startsWith("fixtures"))
  .filter((f) => wanted.length === 0 || wanted.some((w) => f.includes(w)))
  .sort();
if (files.length === 0) {
  console.error(`No test file ending in ${ending} matches ${wanted.join(" ")}.`);
  process.exit(2);
}

globalThis.UVU_DEFER = 1;
globalThis.UVU_QUEUE = [];
// uvu looks at the globals when it loads, so it comes after them.
const { exec } = await import("uvu");
const { skipRecords, testRecords } = await import("./support.ts");
let index = 0;
for (const file of files) {
  globalThis.UVU_INDEX = index++;
  globalThis.UVU_QUEUE.push([file]);
  await import(`${root}/test/${file}`);
}

// uvu prints failures as they come and sets the exit code; it keeps the counts to itself, so they are read off its summary.
let printed = "";
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = ((text: string | Uint8Array, ...rest: []) => {
  printed += String(text);
  return write(text, ...rest);
}) as typeof process.stdout.write;
await exec();
process.stdout.write = write;
const plain = printed.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g"), "");
const count = (label: string) => Number(plain.match(new RegExp(`${label}:\\s+(\\d+)`))?.[1] ?? Number.NaN);

const slowest = [...testRecords].sort((a, b) => b.elapsedMs - a.elapsedMs).slice(0, 10);
console.log("Ten slowest:");
for (const t of slowest) console.log(`  ${(t.elapsedMs / 1000).toFixed(1).padStart(7)} s  ${t.suite}: ${t.name}`);
if (skipRecords.length > 0) console.log("Skipped:");
for (const s of skipRecords) console.log(`  ${s.suite}: ${s.name}: ${s.reason}`);
const total = count("Total");
const passed = count("Passed");
if (!(total > 0)) process.exitCode = 1;
console.log(`${passed} passed, ${total - passed} failed, ${skipRecords.length} skipped`);
// The object that holds the GPU keeps a process alive; everything is done here.
process.exit(process.exitCode ?? 0);
