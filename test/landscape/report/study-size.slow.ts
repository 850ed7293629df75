// Statistics, figures and report of a study of full size, from its files: 16 checkpoints × 441 cells × 64 prompts × 16 rollouts,
// 0.9 GB of cells.jsonl. A process of its own, whose peak memory the system knows.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { describe } from "../../support.ts";
import { STUDY_SIZE, writeStudySizedRun } from "../synthetic-run.ts";

const MOST_SECONDS = 60;
const MOST_MEBIBYTES = 1024;
const MOST_PAGE_BYTES = 1.5e6;

const redrawAlone = (folder: string): string => `
const { redraw } = await import(${JSON.stringify(new URL("../../../landscape/report/report.ts", import.meta.url).href)});
await redraw(${JSON.stringify(folder)}, console.error, new AbortController().signal);
const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
console.log(JSON.stringify({ processor: (userCPUTime + systemCPUTime) / 1e6, seconds: process.uptime(), mebibytes: maxRSS / 1024 }));
`;

describe("landscape/report/study-size, full", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-study-size-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test(`at most ${MOST_SECONDS} s of processor time and ${MOST_MEBIBYTES} MiB, and the page at most ${MOST_PAGE_BYTES / 1e6} MB`, () => {
    const run = join(place, "run");
    writeStudySizedRun(run, STUDY_SIZE);
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      ["--input-type=module", "--eval", redrawAlone(run)],
      { cwd: fileURLToPath(new URL("../../..", import.meta.url)), encoding: "utf8" },
    );
    assert.is(status, 0, stderr);
    const used: { processor: number; seconds: number; mebibytes: number } = JSON.parse(stdout);
    const { processor, seconds, mebibytes } = used;
    console.log(
      `${processor.toFixed(1)} s of processor time, ${seconds.toFixed(1)} s, ${mebibytes.toFixed(0)} MiB at most`,
    );
    assert.ok(processor <= MOST_SECONDS, `${processor} s`);
    assert.ok(mebibytes <= MOST_MEBIBYTES, `${mebibytes} MiB`);
    // Its numbers are all noise, which compresses worse than any landscape.
    const { size } = statSync(join(run, "report.html"));
    assert.ok(size <= MOST_PAGE_BYTES, `${size} bytes of report.html`);
  });
});
