// train.asyncLevel 1, killed at 20 random moments (kill -9): every run continues to the bytes of an undisturbed one. The chosen
// moments are in async-level.test.ts.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { ok } from "uvu/assert";
import { contents, expectDone, expectSame, type Flags, start, studyCommand } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

const flags: Flags = {
  ...{ "landscape.steps": "", "train.asyncLevel": "1", "train.steps": "8", "train.checkpoints": "0,3,8" },
  ...{ "train.equalGroups": "drop", "train.maxRedraws": "2", "train.updatesPerBatch": "2" },
};
const wanted = 20;

describe("rl/async-kill", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-async-kill-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test(`killed at ${wanted} random moments: the same bytes`, async () => {
    const folder = (name: string): string => join(place, name, "study");
    /** Resolves when training begins. */
    const begin = (out: string) => {
      const started = start(studyCommand(out, flags));
      const training = new Promise<void>((begun) => {
        started.child.stderr?.on("data", (text: string) => text.includes("GRPO:") && begun());
      });
      return { ...started, training: Promise.race([training, started.ended]) };
    };
    const undisturbed = begin(folder("undisturbed"));
    await undisturbed.training;
    const began = performance.now();
    expectDone(await undisturbed.ended);
    const milliseconds = performance.now() - began;
    const expected = contents(folder("undisturbed"));

    let kills = 0;
    const moments: number[] = [];
    for (let run = 0; kills < wanted; run++) {
      const out = folder(`run-${run}`);
      for (;;) {
        const { child, ended, training } = begin(out);
        await training;
        const wait = Math.random() * milliseconds;
        if (kills < wanted) await Promise.race([setTimeout(wait), ended]);
        if (kills < wanted && child.exitCode === null && child.kill("SIGKILL") && (await ended).signal === "SIGKILL") {
          kills++;
          moments.push(wait);
          continue;
        }
        expectDone(await ended);
        break;
      }
      expectSame(contents(out), expected);
    }
    console.log(`${kills} kills, ${moments.map((ms) => (ms / 1000).toFixed(2)).join(", ")} s after training (re)began`);
    ok(kills === wanted);
  });
});
