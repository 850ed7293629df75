// What a comparison of runs says about their settings.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { comparison } from "../../../landscape/report/compare.ts";
import { describe } from "../../support.ts";
import { writeSyntheticRun } from "../synthetic-run.ts";

describe("landscape/report/compare", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-compare-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  const [one, two] = ["one", "two"].map((name) => join(folder, name));
  writeSyntheticRun(one);
  writeSyntheticRun(two, undefined, { steps: [2], slices: 2, points: 3 });

  test("lists the settings that differ between runs, and no others", async () => {
    const text = await comparison([one, two], assert.unreachable);
    const [, part] = text.match(/### Settings that differ\n\n([\s\S]*?)\n\nThe other settings/) ?? [];
    assert.is(part, "| setting | one | two |\n| --- | --- | --- |\n| landscape.slices | `1` | `2` |");
    assert.match(await comparison([one, one], assert.unreachable), "None: the runs have the same settings.");
    assert.not.match(await comparison([one], assert.unreachable), "Settings that differ");
  });
});
