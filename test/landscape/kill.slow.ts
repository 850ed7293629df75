// A sweep, killed at random moments (kill -9): every run continues to the bytes of an undisturbed one. The chosen moments are in
// kill.test.ts, those of workers in queue/faults.slow.ts. FOOTHOLD_KILLS is the number of kills (20).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "../support.ts";
import { killAtRandom, wantedKills } from "./random-kills.ts";
import { expectDone, type Flags, runStudy } from "./tiny-study.ts";

const flags: Flags = {
  ...{ "landscape.points": "5", "landscape.slices": "2", "landscape.pointsAtOnce": "4", "landscape.rays.count": "2" },
};

describe("landscape/kill", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-sweep-kill-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test(`a sweep killed at ${wantedKills} random moments: the same bytes`, async () => {
    const folder = (name: string): string => join(place, name, "study");
    const trained = folder("trained");
    expectDone(await runStudy(trained, { ...flags, "landscape.steps": "" }));
    await killAtRandom({ flags, marker: "landscape:", from: trained, folder });
  });
});
