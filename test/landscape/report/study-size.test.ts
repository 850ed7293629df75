// The same measurements give the same statistics, byte by byte, whatever is changed for speed; and of a slice only sums stay in
// memory. study-size.slow.ts has the limits of time and memory at the size of the study.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { claimsPath, sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { readRunSettings } from "../../../landscape/files/run-settings.ts";
import { summariseRun } from "../../../landscape/report/report.ts";
import type { Claim } from "../../../landscape/statistics/claims/claim.ts";
import { readSummarisedSlice } from "../../../landscape/statistics/summarise-slice.ts";
import { describe } from "../../support.ts";
import { writeStudySizedRun } from "../synthetic-run.ts";

/** Fields of summary.json when the digests were made. Later ones may be added. */
const FIELDS = [
  ...["schemaVersion", "grid", "prompts", "r", "rInfinity", "withinRing", "spearman", "kendall", "partialPearson"],
  ...["partialSpearman", "determined", "signals", "coverage", "smoothNull", "originReward", "origin", "parity", "peak"],
  ...[
    "overlap",
    "floor",
    "advantages",
    "surrogate",
    "klBins",
    "firstDifferences",
    "rings",
    "klAtMidEdges",
    "klAtCorners",
  ],
];

/**
 * SHA-256 of points.csv and of these fields of summary.json, by step, and of the numbers in claims.json. They were made
 * of the same measurements by the code before cells were read one by one, which had the whole records of a slice in memory
 * and computed summary, claims and points from them directly; those of summaries and claims again when the interval of the surrogate's
 * R² was put on Fisher's z (with the plain interval the digests were the earlier ones).
 */
const KNOWN = {
  0: [
    "d8d7cd803142e9c56d706767bc7b12140260c042d53690bd947ec6e9897b03c4",
    "d5547cbf98abcadcbc16cd64e995aa9d1cef2eecedada1f33b62e5a254debabc",
  ],
  10: [
    "c0a1f7d9245cd414f390d0d5c6e09ec18afcddd2394090a1f5eb3a9daa34b9d6",
    "2127f4f344c66a1e21e95a948066833934001a77b3a248299598e432b848177b",
  ],
};
const KNOWN_CLAIMS = "672ed30a6c4b4db3de3f70bdc3bdfe12f8187d2affd14fcf5afed04ceb50a9f0";

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

/** The numbers of every claim's tables and figure, without its words. */
function numbersOf(claims: string): string {
  const { claims: list }: { claims: readonly Claim[] } = JSON.parse(claims);
  return JSON.stringify(
    list.map(({ name, verdict, tables, plot }) => [
      ...[name, verdict, tables.map(({ rows }) => rows)],
      plot?.panels.map(({ series }) => series.map(({ points }) => points)),
    ]),
  );
}

describe("landscape/report/study-size", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-study-size-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const run = join(place, "run");
  writeStudySizedRun(run, { checkpoints: 2, points: 5, prompts: 8, rollouts: 4, simulations: 20 });

  test("points.csv, summary.json and claims.json keep their numbers, from the cells and from prompt-maps.json", async () => {
    const settings = await readRunSettings(run);
    for (const from of ["the cells", "prompt-maps.json"]) {
      await summariseRun(run, settings, assert.unreachable, new AbortController().signal);
      for (const [step, [points, summary]] of Object.entries(KNOWN)) {
        const paths = slicePaths(sliceFolder(run, { step: Number(step), slice: 0 }));
        const written: unknown = JSON.parse(readFileSync(paths.summary, "utf8"));
        const kept = FIELDS.map((name) => [name, Reflect.get(Object(written), name)]);
        assert.equal(
          [digest(readFileSync(paths.points, "utf8")), digest(JSON.stringify(kept))],
          [points, summary],
          from,
        );
      }
      assert.is(digest(numbersOf(readFileSync(claimsPath(run), "utf8"))), KNOWN_CLAIMS, from);
    }
  });

  test("a summarised slice holds no rollouts", async () => {
    const settings = await readRunSettings(run);
    const slice = readSummarisedSlice(run, { step: 0, slice: 0 }, settings, assert.unreachable);
    assert.equal(slice?.cells.length, 25);
    assert.ok(slice !== null);
    const { summary, evidence, ...ofCells } = slice;
    const numbersIn = (of: unknown): number => JSON.stringify(of).match(/[:[,]-?\d/g)?.length ?? 0;
    // Per cell: the row of points.csv, three numbers per prompt, its place, and where its conversations are.
    assert.ok(numbersIn(ofCells) < 25 * (55 + 2 * 3 * 8 + 12), `${numbersIn(ofCells)} numbers of cells`);
    // Of the slice: 3 statistics of 200 draws of prompts, five tables of prompts, and estimates by ring and by bin of KL.
    assert.ok(
      numbersIn([summary, evidence]) < 3 * 200 + 5 * 8 + 2000,
      `${numbersIn([summary, evidence])} numbers of the slice`,
    );
  });
});
