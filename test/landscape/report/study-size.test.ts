// The same measurements give the same statistics, byte by byte, whatever is changed for speed; and of a slice only sums stay in
// memory. study-size.slow.ts has the limits of time and memory at the size of the study.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { readRunSettings } from "../../../landscape/files/run-settings.ts";
import { summariseRun } from "../../../landscape/report/report.ts";
import { readSummarisedSlice } from "../../../landscape/statistics/summarise-slice.ts";
import { describe } from "../../support.ts";
import { writeStudySizedRun } from "../synthetic-run.ts";

/** Fields of summary.json when the digests were made. Later ones may be added. */
const FIELDS = [
  ...["schemaVersion", "grid", "prompts", "r", "rInfinity", "withinRing", "spearman", "kendall", "partialPearson"],
  ...["partialSpearman", "determined", "signals", "coverage", "smoothNull", "originReward", "origin", "parity", "peak"],
  ...["overlap", "floor", "advantages", "surrogate", "rings", "klAtMidEdges", "klAtCorners"],
];

/** SHA-256 of points.csv and of these fields of summary.json, by step, from the code that read whole slices into memory. */
const KNOWN = {
  0: [
    "f153dabaa68c0747ef17d5c232174039db3451c455abbad973ae7003a9e2ab84",
    "64c95d8766a630cf6109d99577cc71dab64becd7086d09a238be655fd3cec81c",
  ],
  10: [
    "bd3e4760fc79d066db6fc0b0a188ad27d19aa996f93bc640a91c3326d9e8745d",
    "e4d17821f6b63543129b3f4fc6b2a3afddeb8d7dfbb00c50c39a78748da3a88c",
  ],
};

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

describe("landscape/report/study-size", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-study-size-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  writeStudySizedRun(run, { checkpoints: 2, points: 5, prompts: 8, rollouts: 4, simulations: 20 });

  test("points.csv and summary.json keep their bytes", async () => {
    await summariseRun(run, await readRunSettings(run), assert.unreachable, new AbortController().signal);
    for (const [step, [points, summary]] of Object.entries(KNOWN)) {
      const paths = slicePaths(sliceFolder(run, { step: Number(step), slice: 0 }));
      const written: unknown = JSON.parse(readFileSync(paths.summary, "utf8"));
      const kept = FIELDS.map((name) => [name, Reflect.get(Object(written), name)]);
      assert.equal([digest(readFileSync(paths.points, "utf8")), digest(JSON.stringify(kept))], [points, summary]);
    }
  });

  test("a summarised slice holds no rollouts", async () => {
    const settings = await readRunSettings(run);
    const slice = readSummarisedSlice(run, { step: 0, slice: 0 }, settings, assert.unreachable);
    assert.equal(slice?.cells.length, 25);
    // Per cell: the row of points.csv, three numbers per prompt, and where its conversations are.
    const numbers = JSON.stringify(slice).match(/-?\d[\d.e-]*/g)?.length ?? 0;
    assert.ok(numbers < 25 * (40 + 2 * 3 * 8 + 10) + 2000, `${numbers} numbers`);
  });
});
