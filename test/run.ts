// Runs the tests in one process and ends with a closing line "N passed, N failed, N skipped".
//
//   node test/run.ts [--slow] [--unit] [TEXT …]      only files whose path contains one of the texts
//
// --slow runs the files *.slow.ts instead of *.test.ts; --unit runs only files that open no adapter and start no
// process. FOOTHOLD_ADAPTER chooses the adapter. The run fails if a test is skipped that test/skips.json does not list,
// or if a listed one is not skipped.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { announceAdapter, findTestFiles, reportSkips, runTestFiles, unitTests } from "./runner.ts";
import { skipRecords } from "./support.ts";

// Tests start some hundred processes. With Node's cache of compiled modules each of them starts in a third of the time. It
// holds what it was compiled from, so a changed file is compiled anew.
process.env["NODE_COMPILE_CACHE"] ??= join(tmpdir(), "foothold-compile-cache");

const flags = process.argv.slice(2).filter((word) => word.startsWith("--"));
const texts = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const unknown = flags.filter((flag) => flag !== "--slow" && flag !== "--unit");
if (unknown.length > 0) {
  console.error(`${unknown.join(" ")}: expected --slow or --unit.`);
  process.exit(2);
}
const ending = flags.includes("--slow") ? ".slow.ts" : ".test.ts";
let files = findTestFiles(ending, texts);
if (flags.includes("--unit")) {
  process.env["FOOTHOLD_ADAPTER"] = "none: these tests need no adapter";
  files = unitTests(files);
}
if (files.length === 0) {
  console.error(`No test file ending in ${ending} matches ${texts.join(" ")}.`);
  process.exit(2);
}

const kind = flags.includes("--unit") ? "none" : await announceAdapter();
const { passed, failed } = await runTestFiles(files);
const problems = reportSkips(kind);
console.log(`${passed} passed, ${failed + problems} failed, ${skipRecords.length} skipped`);
// The GPU object keeps the process alive, so exit explicitly: all work is done here.
process.exit(failed + problems === 0 && passed > 0 ? 0 : 1);
