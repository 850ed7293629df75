// Killed at chosen moments (kill -9: no handler runs), the same command goes on, and the finished run equals an undisturbed
// one byte for byte, but for what may hold a clock: timings.jsonl, TensorBoard and provenance. One run is killed at all the
// moments: each command goes on from one kill, does again what the kill undid, and is killed at the next moment.
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { describe } from "../support.ts";
import { contents, expectDone, expectSame, runStudy } from "./tiny-study.ts";

const flags = { "train.checkpoints": "0,2,3", "train.resumeEvery": "1", "landscape.steps": "0,3" };

describe("landscape/kill", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-kill-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const undisturbed = join(place, "undisturbed", "study");

  test("the undisturbed study ends well", async () => {
    expectDone(await runStudy(undisturbed, flags));
  });

  const out = join(place, "killed", "study");
  // Counted from the start of the command that is killed. The state of step 1 is the last one saved until the state of
  // step 2 takes the place of another, so the commands before that all go on at step 2.
  for (const [moment, killAt] of [
    ["after the rollouts of step 2", "rollout:2"],
    ["between the optimiser step and its record", "step:1"],
    ["while a checkpoint is written", "write-folder:1"],
    ["while a state takes the place of another", "replace-folder:1"],
    ["while a cell is journalled", "journal:2"],
    ["after some cells of a batch", "cells:4"],
    ["before the report", "report:1"],
  ])
    test(`killed ${moment}`, async () => {
      const killed = await runStudy(out, flags, { FOOTHOLD_KILL_AT: killAt });
      if (killed.signal !== "SIGKILL") throw new Error(`${killAt} did not kill it: ${killed.status} ${killed.stderr}`);
      // The command after the one that was killed while a cell was journalled: half a line of one cell, and the member of
      // its conversations.
      if (killAt === "cells:4") {
        assert.match(
          killed.stderr,
          /cells\.jsonl: line 2 is damaged \(the line was cut\)\. The \d+ bytes from there on were cut off/,
        );
        assert.match(
          killed.stderr,
          /rollouts\.jsonl\.gz: its last \d+ bytes, what the journal beside it does not name, were cut off/,
        );
        const slice = join(out, "landscape", "step-000000", "slice-0");
        assert.ok(existsSync(join(slice, "cells.jsonl.damaged")));
      } else assert.not.match(killed.stderr, "damaged");
      assert.is(
        existsSync(join(out, "checkpoints", "step-000002")),
        !["rollout:2", "step:1", "write-folder:1"].includes(killAt),
      );
    });

  test("the command that is killed no more ends with the bytes of the undisturbed study", async () => {
    assert.not.match(expectDone(await runStudy(out, flags)), "damaged");
    expectSame(contents(out), contents(undisturbed));
  });

  test("without drafts and in batches, killed after some cells, and continued with both: the same bytes", async () => {
    // The undisturbed study when it had been trained and nothing was swept.
    const trained = join(place, "drafts", "study");
    cpSync(undisturbed, trained, { recursive: true });
    for (const later of ["landscape", "figures", "report.html"]) rmSync(join(trained, later), { recursive: true });
    const off = { ...flags, "landscape.drafts": "off", "landscape.refill": "off" };
    const killed = await runStudy(trained, off, { FOOTHOLD_KILL_AT: "cells:4" });
    assert.is(killed.signal, "SIGKILL");
    const told = expectDone(await runStudy(trained, flags));
    const [, drafted, tokens, spared] =
      told.match(/Drafts: (\d+)% of (\d+) assistant tokens .*; (\d+)% needed no decode step/) ?? [];
    assert.ok(Number(tokens) > 0 && Number(drafted) > 50 && Number(spared) > 25, told);
    expectSame(contents(trained), contents(undisturbed));
  });
});
