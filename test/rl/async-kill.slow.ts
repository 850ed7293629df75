// train.asyncLevel 1, killed at random moments (kill -9): every run continues to the bytes of an undisturbed one. The chosen
// moments are in async-level.test.ts. FOOTHOLD_KILLS is the number of kills (20).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killAtRandom, wantedKills } from "../landscape/random-kills.ts";
import type { Flags } from "../landscape/tiny-study.ts";
import { describe } from "../support.ts";

const flags: Flags = {
  ...{ "landscape.steps": "", "train.asyncLevel": "1", "train.steps": "8", "train.checkpoints": "0,3,8" },
  ...{ "train.equalGroups": "drop", "train.maxRedraws": "2", "train.updatesPerBatch": "2" },
};

describe("rl/async-kill", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-async-kill-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test(`killed at ${wantedKills} random moments: the same bytes`, () =>
    killAtRandom({ flags, marker: "GRPO:", from: null, folder: (name) => join(place, name, "study") }));
});
