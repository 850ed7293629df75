// Progress on a terminal, on a pipe, and when nobody listens any more. The clock is the test's own.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { createProgress, formatDuration, formatRate } from "../../../engine/host/progress.ts";
import { describe } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-progress-"));
const progressModule = fileURLToPath(new URL("../../../engine/host/progress.ts", import.meta.url));

/** A stream that keeps what is written, and a clock that is set by hand. */
function stage(isTTY: boolean): {
  stream: Writable & { isTTY: boolean; columns: number };
  text: () => string;
  clock: { ms: number };
} {
  let text = "";
  const writable = new Writable({
    write(chunk, _encoding, callback) {
      text += String(chunk);
      callback();
    },
  });
  return { stream: Object.assign(writable, { isTTY, columns: 60 }), text: () => text, clock: { ms: 1000 } };
}

/** What a terminal of this width would show after this text; only the sequences that cli-progress uses. */
function screen(text: string, width: number): string[] {
  const lines = [""];
  let [row, column] = [0, 0];
  const put = (letter: string) => {
    lines[row] = lines[row].padEnd(column).slice(0, column) + letter + lines[row].slice(column + 1);
    column++;
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
  for (const [piece, argument, command] of text.matchAll(/\x1b\[(\d*)([A-Za-z])|[^\x1b]/gu)) {
    const count = Number(argument || 1);
    if (piece === "\n") {
      row++;
      column = 0;
      while (lines.length <= row) lines.push("");
    } else if (command === "A") row -= count;
    else if (command === "G") column = count - 1;
    else if (command === "K") lines[row] = argument === "2" ? "" : lines[row].slice(0, column);
    else if (command === "J") {
      lines.length = row + 1;
      lines[row] = lines[row].slice(0, column);
    } else if (command === undefined) {
      assert.ok(column < width, `a line is wider than ${width} columns`);
      put(piece);
    } else throw new Error(`unknown sequence ${JSON.stringify(piece)}`);
  }
  return lines;
}

describe("engine/host/progress", (test) => {
  const ci = process.env["CI"];
  delete process.env["CI"];
  test.after(() => {
    rmSync(temporary, { recursive: true, force: true });
    if (ci !== undefined) process.env["CI"] = ci;
  });

  test("a part of one counts for rate and time left, and only whole ones are shown", () => {
    const { stream, text, clock } = stage(false);
    const progress = createProgress({ stream, now: () => clock.ms });
    const sweep = progress.phase("sweep", 4, "cells", 1);
    clock.ms += 30_000;
    sweep.moveTo(1.25, "rollouts 3/12");
    clock.ms += 30_000;
    sweep.moveTo(2.9999999999, "scoring");
    for (let part = 0; part < 10; part++) sweep.advance(0.1);
    sweep.moveTo(4, "");
    sweep.done();
    assert.equal(text().split("\n"), [
      "sweep: 1/4 cells",
      // A quarter of a cell in 30 s: 0.5 a minute, 2.75 left.
      "sweep: 1/4 cells, 30.0 cells/h, 5 min 30 s left, rollouts 3/12",
      "sweep: 3/4 cells, 2.00 cells/min, 30.0 s left, scoring",
      "sweep: 4 cells (1 before) in 1 min, 3.00 cells/min",
      "",
    ]);
  });

  test("on a pipe: a first line, then one in five seconds with rate and time left, then a summary", () => {
    const { stream, text, clock } = stage(false);
    const progress = createProgress({ stream, now: () => clock.ms });
    const sweep = progress.phase("sweep", 49, "cells");
    for (let cell = 0; cell < 49; cell++) {
      clock.ms += 250;
      sweep.advance(1, `reward ${cell}`);
    }
    sweep.done();
    sweep.done();
    assert.equal(text().split("\n"), [
      "sweep: 0/49 cells",
      "sweep: 20/49 cells, 4.00 cells/s, 7.3 s left, reward 19",
      "sweep: 40/49 cells, 4.00 cells/s, 2.3 s left, reward 39",
      "sweep: 49 cells in 12.3 s, 4.00 cells/s",
      "",
    ]);
  });

  test("on a pipe: inner phases stand behind their outer one and leave no line of their own", () => {
    const { stream, text, clock } = stage(false);
    const progress = createProgress({ stream, now: () => clock.ms });
    const train = progress.phase("train", 10, "steps", 8);
    const rollouts = train.phase("rollouts", 64, "rollouts");
    clock.ms += 5000;
    rollouts.advance(16);
    progress.line("a note");
    rollouts.done();
    clock.ms += 5000;
    train.advance();
    train.done();
    assert.equal(text().split("\n"), [
      "train: 8/10 steps",
      "train: 8/10 steps > rollouts: 16/64 rollouts, 3.20 rollouts/s, 15.0 s left",
      "a note",
      "train: 9/10 steps, 6.00 steps/min, 10.0 s left",
      "train: 9 of 10 steps (8 before) in 10.0 s, 6.00 steps/min",
      "",
    ]);
  });

  test("CI is a pipe even where it pretends to be a terminal; quiet is quiet", () => {
    process.env["CI"] = "true";
    const inCI = stage(true);
    createProgress({ stream: inCI.stream }).phase("sweep", 1, "cells").done();
    delete process.env["CI"];
    assert.is(inCI.text(), "sweep: 0/1 cells\nsweep: 0 of 1 cells\n");
    const quiet = stage(false);
    const progress = createProgress({ stream: quiet.stream, quiet: true });
    const phase = progress.phase("sweep", 1, "cells");
    phase.phase("inner", 1, "x").advance();
    progress.line("a note");
    phase.done();
    assert.is(quiet.text(), "");
  });

  test("on a terminal: a bar for each open phase, lines above them, and at the end the summaries alone", () => {
    const { stream, text, clock } = stage(true);
    const progress = createProgress({ stream, now: () => clock.ms });
    const train = progress.phase("train", 10, "steps");
    const rollouts = train.phase("rollouts", 64, "rollouts");
    clock.ms += 1000;
    rollouts.advance(16);
    const bars = screen(text(), 60).filter((line) => line !== "");
    assert.is(bars.length, 2, JSON.stringify(bars));
    assert.match(bars[0], /^train {12}░{20} 0\/10 steps/);
    assert.match(bars[1], /^ {2}rollouts {7}█{5}░{15} 16\/64 roll/);
    progress.line("a note");
    rollouts.done();
    clock.ms += 1000;
    train.advance(10);
    train.done();
    assert.equal(
      screen(text(), 60).filter((line) => line.trim() !== ""),
      ["a note", "train: 10 steps in 2.0 s, 5.00 steps/s"],
    );
    const second = progress.phase("sweep", 3, "cells");
    progress.close();
    second.advance();
    assert.match(screen(text(), 60).join("\n"), "sweep: 0 of 3 cells");
  });

  test("a phase that was never ended gives way to the next one", () => {
    const { stream, text, clock } = stage(false);
    const progress = createProgress({ stream, now: () => clock.ms });
    progress.phase("one", 1, "x").phase("inner", 1, "x");
    progress.phase("two", 1, "x");
    progress.close();
    assert.equal(text().trimEnd().split("\n"), ["one: 0/1 x", "one: 0 of 1 x", "two: 0/1 x", "two: 0 of 1 x"]);
  });

  if (process.platform === "win32") test.skip("a reader that has gone", "needs sh");
  else
    test("a reader that has gone does not end the work", () => {
      const finished = join(temporary, "finished");
      const program = `import { createProgress } from ${JSON.stringify(progressModule)};
        import { writeFileSync } from "node:fs"; import { setTimeout } from "node:timers/promises";
        const phase = createProgress({ plainIntervalMs: 0 }).phase("sweep", 200, "cells");
        for (let i = 0; i < 200; i++) { await setTimeout(1); phase.advance(1, "x".repeat(2000)); }
        phase.done(); writeFileSync(${JSON.stringify(finished)}, "");`;
      const line = `'${process.execPath}' --input-type=module -e "$0" 2>&1 | head -n 1`;
      const { stdout } = spawnSync("sh", ["-c", line, program], { encoding: "utf8" });
      assert.is(stdout, "sweep: 0/200 cells\n");
      assert.ok(existsSync(finished));
    });

  test("times and rates: each unit to its edge", () => {
    const durations: [number, string][] = [
      [0, "0 ms"],
      [999.4, "999 ms"],
      [999.6, "1.0 s"],
      [59_940, "59.9 s"],
      [59_960, "1 min"],
      [200_000, "3 min 20 s"],
      [3_599_400, "59 min 59 s"],
      [3_599_600, "1 h"],
      [7_500_000, "2 h 5 min"],
      [86_369_000, "23 h 59 min"],
      [86_371_000, "1 d"],
      [273_600_000, "3 d 4 h"],
    ];
    for (const [ms, text] of durations) assert.is(formatDuration(ms), text);
    const rates: [number, number, string][] = [
      [4, 1000, "4.00 x/s"],
      [1, 1001, "59.9 x/min"],
      [1, 60_001, "60.0 x/h"],
      [1, 7_200_000, "0.500 x/h"],
      [123_456, 1000, "123456 x/s"],
    ];
    for (const [count, ms, text] of rates) assert.is(formatRate(count, ms, "x"), text);
  });
});
