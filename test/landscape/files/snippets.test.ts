// The programs of docs/formats.md name files and fields that a run folder has. (They were run with pandas and polars by hand:
// this needs no Python.)
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { exportFolder } from "../../../landscape/files/layout.ts";
import { exportRun } from "../../../landscape/report/export.ts";
import { redraw } from "../../../landscape/report/report.ts";
import { describe } from "../../support.ts";
import { syntheticPlace, writeSyntheticRun } from "../synthetic-run.ts";

/** Files that the made-up run lacks, by the end of their path, with the fields that the programs take from them. */
const NOT_MADE: Readonly<Record<string, readonly string[]>> = {
  "step-000001.jsonl.gz": ["episode", "reward", "advantage", "tokens", "messages", "content"],
  "step-000002.sha256": [],
  "trainer.json": ["schemaVersion", "step"],
  "slice.json": ["seed", "digest"],
  "under-way.jsonl": ["i", "j", "reward"],
  "evaluation.json": ["schemaVersion", "reward", "mean", "passAtK"],
  "conversations.jsonl.gz": ["episode", "reward"],
  "landscape/rays.json": ["checkpoints", "radii", "rows", "step", "radius"],
  "landscape/pairs.json": ["pairs", "from", "to", "kl", "gain"],
  "landscape/noise-floor.json": ["checkpoints", "maps", "step", "slice", "draws", "below", "above", "cells"],
  "landscape/kl-from.json": ["maps", "step", "slice", "from", "isOwn"],
  "landscape/updates.json": ["updates", "matrices", "from", "to", "name", "both"],
  "landscape/trajectory.json": ["shares", "checkpoints", "step", "coordinates"],
  "fixed-kl/scales.jsonl": ["target", "scale", "passes"],
  "rays/rays.json": ["lengths"],
  "rays/cells.jsonl": ["i", "alpha", "rollouts", "reward"],
  "noise-floor/draws.jsonl": ["draw", "reward"],
  "pairs/step-000000.json": ["from", "to", "reference", "kl"],
  "kl-from-step-000000.jsonl": ["i", "j"],
};

/** Words of pandas, polars and Python, columns that a program names itself, and a field of timings.jsonl. */
const OTHER_WORDS = new Set([
  ...[
    "rb",
    "rt",
    "utf",
    "mean",
    "sem",
    "size",
    "index",
    "sha256",
    "file",
    "prompt",
    "value",
    "estimand",
    "alpha",
    "beta",
  ],
  ...["r_at_beta_0", "round_trip", "runs/tiny", "phase"],
]);

const read = (path: string): string =>
  path.endsWith(".gz") ? gunzipSync(readFileSync(path)).toString() : readFileSync(path, "latin1");

describe("landscape/files/snippets", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-snippets-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const text = readFileSync(new URL("../../../docs/formats.md", import.meta.url), "utf8");
  const programs = [...text.matchAll(/```python\n(.*?)```/gs)].map(([, program]) => program);

  test("every file and every field that a program of docs/formats.md reads is there", async () => {
    const run = join(place, "run");
    writeSyntheticRun(run);
    await redraw(run, assert.unreachable, new AbortController().signal);
    for (const format of ["npz", "json"] as const)
      await exportRun(run, { format, out: exportFolder(run), steps: [], slices: [] }, assert.unreachable);
    assert.is(programs.length, 6);
    const step = `step-00000${syntheticPlace.step}`;
    const roots: Readonly<Record<string, string>> = {
      run,
      place: join(run, "landscape", step, `slice-${syntheticPlace.slice}`),
      folder: run,
    };
    const files = new Set<string>();
    const words = new Set<string>(OTHER_WORDS);
    for (const [, root, path] of programs.join().matchAll(/f"\{(run|place|folder)\}\/([^"]+)"/g)) {
      const file = join(roots[root], path.replaceAll("{step}", step).replace("step-000020", step));
      if (path.endsWith("slice-0")) continue; // the folder itself
      const notMade = Object.keys(NOT_MADE).find((end) => file.endsWith(`/${end}`));
      const fields = notMade === undefined ? undefined : NOT_MADE[notMade];
      assert.is(existsSync(file), fields === undefined, `${file}: in the run, or in the list of those that it lacks`);
      files.add(notMade ?? file);
      for (const field of fields ?? []) words.add(field);
      if (fields === undefined) for (const [word] of read(file).matchAll(/[A-Za-z_][\w/]*/g)) words.add(word);
    }
    assert.equal(
      [...Object.keys(NOT_MADE)].filter((name) => !files.has(name)),
      [],
    );
    const named = [...programs.join().matchAll(/(?<!f)"([A-Za-z_][\w/]*)"/g)].map(([, word]) => word);
    assert.ok(named.length > 60, `${named.length} words`);
    assert.equal(
      named.filter((word) => !words.has(word)),
      [],
    );
  });
});
