// Whole small studies along directions that are made from checkpoints, completions and the optimiser's state.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sliceFolder } from "../../landscape/files/layout.ts";
import { expectSameDirections, readSliceFacts, type SliceFacts } from "../../landscape/files/slice-facts.ts";
import { partialPearson } from "../../landscape/statistics/statistics.ts";
import { describe, throwsMessage } from "../support.ts";
import { contents, expectDone, expectSame, runStudy } from "./tiny-study.ts";

/** Of the tiny preset. */
const radius = 0.05;

const along = (axis: "delta" | "eta", of: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(of).map(([key, value]) => [`landscape.directions.${axis}.${key}`, value]));

const flags = {
  ...along("delta", { kind: "pca", norm: "global", component: "1" }),
  ...along("eta", { kind: "adamw-gradient", norm: "used-row" }),
  "landscape.centre.alpha": "0.5",
  "train.normalisation": "sequence",
  "landscape.reference.rollouts": "3",
};

/** summary.json's partial correlation is given ‖Δθ‖² along these directions, from the checkpoint on. */
function expectDistance(out: string, facts: SliceFacts | null): void {
  const folder = sliceFolder(out, { step: 3, slice: 0 });
  const [head, ...lines] = readFileSync(join(folder, "points.csv"), "utf8").trim().split("\n");
  const column = (name: string): number[] =>
    lines.map((line) => Number(line.split(",")[head.split(",").indexOf(name)]));
  const [alpha, beta] = [column("alpha"), column("beta")];
  const [delta, eta, cosine] = [facts?.delta?.length ?? 0, facts?.eta?.length ?? 0, facts?.cosine ?? 0];
  const distance = alpha.map((a, k) => {
    const [along, across] = [(a + 0.5 * radius) * delta, beta[k] * eta];
    return along ** 2 + 2 * along * across * cosine + across ** 2;
  });
  const summary: { partialPearson: { value: number } } = JSON.parse(readFileSync(join(folder, "summary.json"), "utf8"));
  const expected = partialPearson(column("kl_token"), column("reward"), distance);
  assert.ok(expected !== null && Math.abs(summary.partialPearson.value - expected) < 1e-9, `${expected}`);
}

describe("landscape/directions-study", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-directions-study-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("a study along a principal component and AdamW's step; resumed with others it is refused by name", async () => {
    const out = join(place, "run");
    const stderr = expectDone(await runStudy(out, flags));
    const said =
      /Step 3, slice 0: δ pca, global norm, 100.0% of the variance of 2 checkpoints; η adamw-gradient, norm per used row, with the moments of step 3; cosine -?0\.\d+/;
    assert.ok(said.test(stderr), stderr);
    const facts = readSliceFacts(out, { step: 3, slice: 0 }, (line) => assert.fail(line));
    assert.equal(facts?.centre?.alpha, 0.5);
    for (const axis of [facts?.delta, facts?.eta]) {
      const sum = Object.values(axis?.shares ?? {}).reduce((total, share) => total + share, 0);
      assert.ok(Math.abs(sum - 1) < 1e-9, `shares add up to ${sum}`);
    }
    const report = readFileSync(join(out, "report.html"), "utf8");
    assert.match(report, /The centre of the grid is not the checkpoint/);
    expectDistance(out, facts);
    const before = contents(out);
    const other = await runStudy(out, { ...flags, ...along("eta", { norm: "row" }) });
    assert.equal(other.status, 2);
    assert.match(other.stderr, /landscape\.directions\.eta\.norm: "used-row" -> "row"/);
    const longer = await runStudy(out, { ...flags, "train.checkpoints": "0,1,3" });
    assert.match(longer.stderr, /train\.checkpoints: \[0,3\] -> \[0,1,3\]/, "another trajectory is another component");
    assert.deepEqual([...contents(out)], [...before], "a refused command changes nothing");
    const again = join(place, "again");
    const killed = await runStudy(again, flags, { FOOTHOLD_KILL_AT: "cells:4" });
    assert.equal(killed.signal, "SIGKILL", killed.stderr);
    expectDone(await runStudy(again, flags));
    const named = (all: Map<string, Buffer>): Map<string, Buffer> =>
      new Map([...all].filter(([name]) => name !== "report.html"));
    expectSame(named(contents(again)), named(before));
  });

  test("a file that does not fit is refused before training, with nothing written", async () => {
    const out = join(place, "refused");
    const file = join(place, "direction.safetensors");
    writeFileSync(file, "no safetensors");
    const { status, stderr } = await runStudy(out, along("delta", { kind: "file", file }));
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^CheckpointError: .*direction\.safetensors: /m);
    assert.equal(contents(out).size, 0);
  });

  test("a slice is not continued along directions of another digest", async () => {
    const folder = sliceFolder(place, { step: 0, slice: 0 });
    const fail = (line: string): never => assert.fail(line);
    expectSameDirections(folder, { seed: 1, slice: 0, digest: "one" }, fail);
    const file = join(folder, "slice.json");
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, JSON.stringify({ seed: 1, slice: 0, digest: "a".repeat(64) }));
    expectSameDirections(folder, { seed: 1, slice: 0, digest: "a".repeat(64) }, fail);
    const axis = { kind: "gradient", norm: "row", length: 1, shares: {} };
    await throwsMessage(
      () => expectSameDirections(folder, { seed: 1, slice: 0, digest: "b".repeat(64), delta: axis, eta: axis }, fail),
      "this slice was measured along other directions",
      "before: δ gaussian; η gaussian; seed 1; digest aaaaaaaaaaaa…",
      "now:    δ gradient, norm per row; η gradient, norm per row; seed 1; digest bbbbbbbbbbbb…",
    );
    const told: string[] = [];
    writeFileSync(file, "{");
    expectSameDirections(folder, { seed: 1, slice: 0, digest: "b".repeat(64) }, (line) => told.push(line));
    assert.match(told.join(), /slice\.json: expected JSON.* the slice's directions are not known/);
  });
});
