// Every file of a run folder with a flipped bit, cut short, empty or gone: report and comparison give one message for people or
// go on and say what is left out; never a stack, never a silent loss, and never a byte changed in what was measured.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import * as assert from "uvu/assert";
import { UserError } from "../../../engine/host/index.ts";
import { countCells, openCells } from "../../../landscape/files/cells.ts";
import { referencePath, sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { comparison } from "../../../landscape/report/compare.ts";
import { redraw } from "../../../landscape/report/report.ts";
import { configPath, metricsPath, provenancePath, timingsPath } from "../../../rl/files/layout.ts";
import { describe, throwsMessage } from "../../support.ts";
import { syntheticPlace, writeSyntheticRun } from "../synthetic-run.ts";

const place = mkdtempSync(join(tmpdir(), "foothold-damaged-"));
const whole = join(place, "whole", "run");
const never = new AbortController().signal;
let copies = 0;

function copy(): string {
  const folder = join(place, String(copies++), "run");
  cpSync(whole, folder, { recursive: true });
  return folder;
}

interface Outcome {
  /** The message of a refusal; null when it went on. */
  refused: string | null;
  told: string;
  output: string;
}

/** What a command does. An error that is not for users fails the test. */
async function outcomeOf(act: (say: (message: string) => void) => string | Promise<string>): Promise<Outcome> {
  const told: string[] = [];
  try {
    const output = await act((message) => told.push(message));
    return { refused: null, told: told.join("\n"), output };
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
    return { refused: thrown.message, told: told.join("\n"), output: "" };
  }
}

const report = (folder: string): Promise<Outcome> => outcomeOf((say) => redraw(folder, say, never));
const compared = (folder: string): Promise<Outcome> => outcomeOf((say) => comparison([folder], say));

/** What was measured and may not change. */
function sources(folder: string): Map<string, string> {
  const made = /(points\.csv|(summary|prompt-maps|claims)\.json|report\.html|\.lock|figures.*)$/;
  return new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => !made.test(name) && statSync(join(folder, name)).isFile())
      .sort()
      .map((name) => [name, readFileSync(join(folder, name), "latin1")]),
  );
}

const flipped = (bytes: Buffer, at: number): Buffer => {
  const other = Buffer.from(bytes);
  other[at] ^= 1 << (at % 7);
  return other;
};

/** Places from the first byte to the last. */
const spread = (length: number, count: number): number[] => [
  ...new Set(Array.from({ length: count }, (_, k) => Math.round((k * (length - 1)) / (count - 1)))),
];

const slice = (folder: string) => slicePaths(sliceFolder(folder, syntheticPlace));

describe("landscape/files/damaged-files", (test) => {
  test.after(() => rmSync(place, { recursive: true, force: true }));
  writeSyntheticRun(whole);

  test("undamaged: nothing is told, and nothing that was measured changes", async () => {
    const folder = copy();
    const before = sources(folder);
    const drawn = await report(folder);
    assert.is(drawn.refused, null);
    assert.is(drawn.told, "");
    assert.match(drawn.output, "r(KL, R)");
    assert.not.match(drawn.output, "Incomplete");
    const side = await compared(folder);
    assert.equal([side.refused, side.told], [null, ""]);
    assert.equal(sources(folder), before);
    assert.not.match(readFileSync(join(folder, "report.html"), "utf8"), "of 9 cells");
  });

  /** Each file, and whether any flipped bit in it must be found. */
  const files: readonly [name: string, path: (folder: string) => string, isChecked: boolean][] = [
    ["cells.jsonl", (folder) => slice(folder).cells, true],
    ["reference.json", (folder) => referencePath(folder, syntheticPlace.step), false],
    ["metrics.jsonl", metricsPath, false],
    ["config.toml", configPath, false],
  ];
  for (const [name, path, isChecked] of files)
    test(`${name}: flipped bits and cuts give a message with its name, or the whole comparison`, async () => {
      const undisturbed = (await compared(whole)).output;
      const folder = copy();
      const bytes = readFileSync(path(folder));
      const cases = [
        ...spread(bytes.length, 150).map((at) => flipped(bytes, at)),
        ...spread(bytes.length, 20).map((length) => bytes.subarray(0, length)),
      ];
      let found = 0;
      for (const damaged of cases) {
        writeFileSync(path(folder), damaged);
        const before = sources(folder);
        const { refused, told, output } = await compared(folder);
        const message = `${refused ?? ""}${told}`;
        if (message !== "") {
          found++;
          // A setting that is wrong names itself; of a journal without a line it is said how many cells are there.
          if (name !== "config.toml" && damaged.length > 0) assert.ok(message.includes(path(folder)), message);
        } else if (isChecked) assert.is(output, undisturbed, `a loss nobody was told of: ${damaged.length} bytes`);
        assert.equal(sources(folder), before);
      }
      if (isChecked) assert.is(found, cases.length);
      else assert.ok(found > cases.length / 10, `${found} of ${cases.length} found`);
    });

  for (const [name, path] of [...files, ["provenance.json", provenancePath] as const])
    test(`${name}: the report on it, flipped, cut, empty and gone`, async () => {
      const folder = copy();
      const bytes = readFileSync(path(folder));
      const cases = [flipped(bytes, 0), bytes.subarray(0, bytes.length >> 1), Buffer.alloc(0), null];
      for (const damaged of cases) {
        if (damaged === null) rmSync(path(folder));
        else writeFileSync(path(folder), damaged);
        const { refused, told } = await report(folder);
        // Nothing before the damaged line, no line, no file: told as cells that are not measured.
        assert.match(`${refused ?? ""}${told}`, name === "cells.jsonl" ? /cells/ : basename(path(folder)));
      }
    });

  test("one flipped bit in line 5 of 9 of cells.jsonl: refused with the line, and all 9 lines stay", async () => {
    const folder = copy();
    const path = slice(folder).cells;
    const lines = readFileSync(path, "utf8").split("\n");
    lines[4] = lines[4].replace(/"alpha":(-?)0/, '"alpha":$11');
    writeFileSync(path, lines.join("\n"));
    const before = sources(folder);
    for (const outcome of [await report(folder), await compared(folder)])
      assert.match(
        outcome.refused ?? "",
        `${path}: line 5 is damaged (its checksum does not match), and 4 whole lines follow it.`,
      );
    await throwsMessage(() => openCells(sliceFolder(folder, syntheticPlace), console.error), "line 5 is damaged");
    await throwsMessage(() => countCells(folder, syntheticPlace), "line 5 is damaged");
    assert.equal(sources(folder), before);
  });

  test("a cut last line: report and comparison say 8 of 9 cells, the terminal table and the page too", async () => {
    const folder = copy();
    const path = slice(folder).cells;
    writeFileSync(path, readFileSync(path).subarray(0, -10));
    const before = sources(folder);
    const drawn = await report(folder);
    assert.match(drawn.told, `${path}: line 9 is damaged (the line was cut). Only the 8 lines before it were read.`);
    assert.match(drawn.told, "Incomplete: Step 2, slice 0: 8 of 9 cells are measured.");
    assert.match(drawn.output, "Incomplete: Step 2, slice 0: 8 of 9 cells are measured.");
    assert.match(readFileSync(join(folder, "report.html"), "utf8"), "8 of 9 cells");
    const { grid } = JSON.parse(readFileSync(slice(folder).summary, "utf8"));
    assert.equal([grid.cells, grid.total, grid.isComplete], [8, 9, false]);
    assert.match((await compared(folder)).told, "8 of 9 cells are measured");
    assert.equal(sources(folder), before);

    // A sweep cuts, says so, keeps what it cut, and its record's conversations with it.
    const told: string[] = [];
    const writer = openCells(sliceFolder(folder, syntheticPlace), (message) => told.push(message));
    writer.close();
    assert.is(writer.done.length, 8);
    assert.match(
      told[0],
      /line 9 is damaged .* are kept in cells\.jsonl\.damaged\. What was cut off is measured again\./,
    );
    assert.match(told[1], /rollouts\.jsonl\.gz: its last \d+ bytes, .* are kept in rollouts\.jsonl\.gz\.damaged\./);
    const kept = Buffer.concat([readFileSync(path), readFileSync(`${path}.damaged`)]);
    assert.is(kept.toString("latin1"), before.get(path.slice(folder.length + 1)));
  });

  test("a sweep of 3 of 9 points, and one that has not begun: told", async () => {
    const folder = join(place, "part", "run");
    writeSyntheticRun(folder, 3);
    const { told } = await report(folder);
    assert.is(told, "Incomplete: Step 2, slice 0: 3 of 9 cells are measured.");
    assert.match(readFileSync(join(folder, "report.html"), "utf8"), "3 of 9 cells are measured");
    rmSync(sliceFolder(folder, syntheticPlace), { recursive: true });
    assert.is((await report(folder)).told, "Incomplete: Step 2, slice 0: 0 of 9 cells are measured.");
  });

  test("metrics.jsonl that lost whole lines: the report says how many steps it has", async () => {
    const folder = copy();
    const path = metricsPath(folder);
    const lines = readFileSync(path, "utf8").split("\n");
    writeFileSync(path, `${lines[0]}\n${lines[2]}\n`);
    assert.is((await report(folder)).told, "Incomplete: Training: metrics.jsonl has 2 of 3 steps, step 0 included.");
    assert.match(readFileSync(join(folder, "report.html"), "utf8"), "metrics.jsonl has 2 of 3 steps");
  });

  test("rollouts.jsonl.gz: flipped bits, cuts, and gone: the cells are named, the numbers are whole, the report is drawn", async () => {
    const folder = copy();
    const path = slice(folder).conversations;
    const bytes = readFileSync(path);
    const undisturbed = (await report(folder)).output;
    const page = readFileSync(join(folder, "report.html"), "utf8");
    const cases = [
      ...spread(bytes.length, 5).map((at) => flipped(bytes, at)),
      bytes.subarray(0, bytes.length >> 1),
      null,
    ];
    let found = 0;
    for (const damaged of cases) {
      if (damaged === null) rmSync(path);
      else writeFileSync(path, damaged);
      const before = sources(folder);
      const { refused, told, output } = await report(folder);
      assert.is(refused, null);
      assert.is(output, undisturbed);
      const drawn = readFileSync(join(folder, "report.html"), "utf8");
      if (told === "")
        assert.is(drawn, page); // a bit that gzip does not look at
      else {
        found++;
        assert.match(
          told,
          new RegExp(`^${path}: the conversations of [1-9] of 9 cells cannot be read \\(the first is cell`),
        );
        assert.match(drawn, /the conversations of [1-9] of 9 cells cannot be read/);
      }
      assert.equal(sources(folder), before);
    }
    assert.ok(found > cases.length / 2, `${found} of ${cases.length}`);
  });

  test("files that are made again, or are only written, harm nothing when they are damaged", async () => {
    const folder = copy();
    await report(folder);
    const page = readFileSync(join(folder, "report.html"));
    const board = join(folder, "tensorboard", readdirSync(join(folder, "tensorboard"))[0]);
    const { points, summary } = slice(folder);
    const paths = [points, summary, timingsPath(folder), board].map((path) => ({
      path,
      bytes: existsSync(path) ? readFileSync(path) : Buffer.from("{}"),
    }));
    for (const damage of [
      (bytes: Buffer) => flipped(bytes, bytes.length >> 1),
      (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1),
    ]) {
      for (const { path, bytes } of paths) writeFileSync(path, damage(bytes));
      assert.equal({ ...(await report(folder)), output: "" }, { refused: null, told: "", output: "" });
      assert.ok(readFileSync(join(folder, "report.html")).equals(page));
      for (const { path, bytes } of paths.slice(0, 2))
        assert.ok(readFileSync(path).equals(bytes), `${basename(path)} is made again`);
    }
  });

  test("slice.json: the directions are not shown, and why is told; the numbers stay", async () => {
    const folder = copy();
    const axis = { kind: "gaussian", norm: "tensor", length: 1, shares: { mlp: 1 } };
    const path = slice(folder).directions;
    const facts = JSON.stringify({
      schemaVersion: 1,
      seed: 1,
      slice: 0,
      digest: "0",
      delta: axis,
      eta: axis,
      cosine: 0,
    });
    writeFileSync(path, facts);
    const whole = await report(folder);
    assert.is(whole.told, "");
    const hasTable = (): boolean => /direction-shares/.test(readFileSync(join(folder, "report.html"), "utf8"));
    assert.ok(hasTable());
    for (const damaged of [facts.slice(0, 60), facts.replace('"length":1', '"length":"1"')]) {
      writeFileSync(path, damaged);
      const { refused, told, output } = await report(folder);
      assert.is(refused, null);
      assert.is(output, whole.output);
      assert.match(told, /slice\.json: [\s\S]* the slice's directions are not known\./);
      assert.not.ok(hasTable());
    }
  });
});
