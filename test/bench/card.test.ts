// bench/card.ts in small sizes on whatever adapter the tests have: its file fits its schema, everything that is timed
// was checked, and a part that fails is reported while the others continue. Each run starts several processes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { emptyRow } from "../../bench/card/part.ts";
import { ceilingsOf, rated, tableLines } from "../../bench/card/rated.ts";
import { type CardReport, cardSchema, partNames, type Row } from "../../bench/card/results.ts";
import { openAdapter } from "../../engine/backends/webgpu/adapter.ts";
import { describe } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

function run(words: readonly string[], fault = ""): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, FOOTHOLD_CARD_FAULT: fault };
  return spawnSync(process.execPath, ["bench/card.ts", ...words], { cwd: root, encoding: "utf8", env });
}

/** Runs with --out and reads the file. */
function runForReport(
  words: readonly string[],
  fault: string,
): { status: number | null; stdout: string; report: CardReport } {
  const folder = mkdtempSync(join(tmpdir(), "foothold-card-"));
  try {
    const out = join(folder, "card.json");
    const { status, stdout, stderr } = run([...words, "--out", out], fault);
    assert.notEqual(status, 2, stderr);
    return { status, stdout, report: cardSchema.parse(JSON.parse(readFileSync(out, "utf8"))) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const partOf = ({ parts }: CardReport, name: string) => parts.find((part) => part.name === name);
const { opened } = await openAdapter().catch(() => ({ opened: null }));
const hasAdapter = opened !== null && opened.info.label !== "null";

describe("bench/card", (test) => {
  const needing = (name: string, body: () => void): void =>
    hasAdapter ? test(name, body) : test.skip(name, "there is no adapter");

  needing("measures every part in small sizes; a wrong part fails, and the others continue", () => {
    const { status, stdout, report } = runForReport(["--sizes", "small", "--minutes", "2"], "attention:wrong");
    assert.equal(status, 1);
    assert.deepEqual(
      report.parts.map(({ name }) => name),
      [...partNames],
    );
    assert.deepEqual(
      report.parts.filter(({ outcome }) => outcome === "failed").map(({ name }) => name),
      ["attention"],
    );
    assert.match(partOf(report, "attention")?.problem ?? "", /rows failed; the first: .*wrong value: .*expected .*got/);
    assert.match(stdout, /^failed: attention; /m);
    assert.match(stdout, /^\| attention forward 64 tokens +\| +FAILED \|.*wrong value/m);
    for (const row of report.rows) {
      // A row is either a number with what was checked, or the reason why there is none.
      assert.equal(row.milliseconds === null, row.outcome !== "measured", row.name);
      assert.equal(row.reason === null, row.outcome === "measured", row.name);
      if (row.part === "attention") assert.equal(row.outcome, "failed", row.name);
      else if (row.outcome === "measured" && row.part !== "check") assert.ok(row.checked, row.name);
    }
    assert.ok((report.ceilings.copy?.rate ?? 0) > 0 && (report.ceilings.f32?.rate ?? 0) > 0);
    assert.ok(report.rows.some(({ part, outcome }) => part === "gpt2-medium" && outcome === "measured"));
    assert.ok(report.rows.some(({ share }) => share !== null && share.share === 1));
    assert.ok(report.isWhole);
    assert.equal(report.adapter?.driver, opened?.info.driver);
    assert.ok(report.totalSeconds <= 120, `${report.totalSeconds} s`);
  });

  needing("a part whose process dies keeps what it had measured", () => {
    const { status, report } = runForReport(
      ["--sizes", "small", "--minutes", "2", "--only", "head,adamw"],
      "head:crash",
    );
    assert.equal(status, 1);
    assert.deepEqual(
      report.rows.map(({ part, name, outcome }) => `${part}: ${outcome === "measured" ? "measured" : name}`),
      ["head: measured", "head: the rest of this part", "adamw: measured"],
    );
    assert.match(partOf(report, "head")?.problem ?? "", /ended by SIGKILL/);
  });

  needing("a part that never ends is stopped within the time", () => {
    const { status, report } = runForReport(["--sizes", "small", "--minutes", "0.15", "--only", "adamw"], "adamw:hang");
    assert.equal(status, 1);
    assert.match(partOf(report, "adamw")?.problem ?? "", /did not end within \d+ s and was stopped/);
    assert.ok(report.totalSeconds < 20, `${report.totalSeconds} s`);
  });

  test("a dry run names every part and case, and needs no GPU", () => {
    const { status, stdout } = run(["--dry-run", "--sizes", "full"]);
    assert.equal(status, 0);
    for (const part of partNames) assert.match(stdout, new RegExp(`^${part}: `, "m"));
    assert.match(stdout, /^ {2}weight f16 gate, up 4096×896×4864$/m);
    assert.match(stdout, /^ {2}AdamW step, 0.5B, 494.0 million parameters$/m);
  });

  test("an unknown part is refused before anything runs", () => {
    const { status, stderr } = run(["--only", "produkts"]);
    assert.equal(status, 2);
    assert.match(stderr, /only: expected parts \(check, .*got "produkts"/);
  });

  test("a file that cannot be written is refused before anything runs", () => {
    for (const out of ["no-such-folder/card.json", "bench"]) {
      const { status, stderr } = run(["--sizes", "small", "--only", "ceilings", "--out", out]);
      assert.equal(status, 2);
      assert.match(stderr, /no-such-folder: no such file or folder|bench: expected a file, got a folder/);
      assert.doesNotMatch(stderr, /ceilings:/);
    }
  });

  const row = (part: Row["part"], name: string, more: Partial<Row>): Row => ({
    ...emptyRow(part, name),
    ...{ milliseconds: 1, clock: "wall", wallMilliseconds: 1, checked: "1 of y" },
    ...more,
  });
  const rows = [
    row("ceilings", "copy 4 MiB", { bytes: 4e6 }),
    row("ceilings", "forward f32", { flops: 1e9 }),
    row("products", "forward f32 q", { flops: 2e9 }),
    row("products", "forward f16 q", { flops: 8e9 }),
    row("products", "forward f32 wrong", {
      flops: 9e9,
      milliseconds: null,
      outcome: "failed",
      reason: "wrong | value",
    }),
    row("decode", "decode f32", { flops: 1e6, bytes: 3e6, tokens: 16 }),
  ];

  test("the ceilings are the best measured rows in each precision; a failed row sets none", () => {
    const found = ceilingsOf(rows);
    assert.deepEqual(found, {
      copy: { rate: 4, of: "copy 4 MiB" },
      f32: { rate: 2000, of: "forward f32 q" },
      f16: { rate: 8000, of: "forward f16 q" },
    });
    const [, half, , , wrong, decode] = rated(rows, found, new Map());
    assert.deepEqual(half.share, { share: 0.5, of: "f32 products" });
    assert.equal(wrong.share, null);
    assert.deepEqual([decode.share, decode.tokensPerSecond], [{ share: 0.75, of: "copy" }, 16_000]);
  });

  test("the table shows PyTorch beside our time, and why a row has no number", () => {
    const found = rated(rows, ceilingsOf(rows), new Map([["forward f32 q", 0.5]]));
    const lines = tableLines({ rows: found, peers: "PyTorch" }).map((line) => line.replaceAll(/ +/g, " "));
    assert.ok(
      lines.includes("| forward f32 q | 1.00 ms | 2.00 TFLOP/s | 100% of f32 products | 500 µs | 0.50 | 1 of y |"),
    );
    assert.ok(lines.includes("| forward f32 wrong | FAILED | | | | | wrong / value |"));
  });
});
