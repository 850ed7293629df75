// npm run fixtures: runs the tests that compare with fixtures (known answers) and prints, per file, quantity and
// backend, the worst error beside the allowed one. Fails when a test fails, or when no test reads a fixture.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { announceAdapter, filesUsing, findTestFiles, runTestFiles } from "./runner.ts";
import { fixtureFolder, type KnownRecord, knownRecords, usedFixtures } from "./support.ts";

const here = fileURLToPath(new URL(".", import.meta.url));

/**
 * Per quantity and backend, the comparison that came nearest to its tolerance, with the number of elements of all
 * comparisons.
 */
function worstOfEach(records: readonly KnownRecord[]): KnownRecord[] {
  const found = new Map<string, KnownRecord>();
  for (const record of records) {
    const key = JSON.stringify([record.file, record.quantity, record.backend]);
    const before = found.get(key);
    const worst = before !== undefined && before.share >= record.share ? before : record;
    found.set(key, { ...worst, elements: (before?.elements ?? 0) + record.elements });
  }
  return [...found.values()].sort(
    (a, b) =>
      a.file.localeCompare(b.file) || a.quantity.localeCompare(b.quantity) || a.backend.localeCompare(b.backend),
  );
}

function printTable(records: readonly KnownRecord[]): void {
  const header = ["file", "quantity", "backend", "elements", "worst error", "allowed", "share"];
  const rows = records.map(({ file, quantity, backend, elements, difference, allowed, share }) => [
    file,
    quantity,
    backend,
    String(elements),
    difference === 0 ? "0" : difference.toExponential(1),
    allowed === 0 ? "0" : allowed.toExponential(1),
    `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`,
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  for (const row of [header, ...rows])
    console.log(row.map((cell, i) => (i < 3 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "));
}

await announceAdapter();
const files = filesUsing(/\b(?:readFixture|readSafetensorsFixture|assertKnown)\b/, findTestFiles(".test.ts"));
const { passed, failed } = await runTestFiles(files);
printTable(worstOfEach(knownRecords));

// Scripts and notes are not fixtures. Fixtures of slow tests only need files that this machine may lack (real
// checkpoints).
const slowTests = findTestFiles(".slow.ts").map((file) => readFileSync(join(here, file), "utf8"));
const measured = new Set(knownRecords.map(({ file }) => file));
let unused = 0;
for (const name of readdirSync(fixtureFolder).sort()) {
  if (name === "make" || name.endsWith(".md") || measured.has(name)) continue;
  if (usedFixtures.has(name))
    console.log(`${name}: no error to measure: tests start from it, or compare with it bit for bit`);
  else if (slowTests.some((text) => text.includes(name)))
    console.log(`${name}: read by slow tests only (npm run test:slow)`);
  else {
    unused++;
    console.log(`FAIL ${name}: no test reads it. Write one, or delete the file.`);
  }
}
console.log(`${passed} passed, ${failed + unused} failed`);
process.exit(failed + unused === 0 ? 0 : 1);
