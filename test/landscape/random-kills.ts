// Kills a study at random moments (kill -9) and continues it, again and again: every run ends with the bytes of an undisturbed one.
// FOOTHOLD_KILLS is the number of kills (20).
import { cpSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { ok } from "uvu/assert";
import { contents, expectDone, expectSame, type Flags, type Started, start, studyCommand } from "./tiny-study.ts";

export const wantedKills = Number(process.env["FOOTHOLD_KILLS"] ?? "20");

interface RandomKills {
  readonly flags: Flags;
  /** What a command says when the part that is killed begins. */
  readonly marker: string;
  /** A folder to start each run from; null: from none. */
  readonly from: string | null;
  /** The folder of the run with this name. */
  folder(name: string): string;
}

/** @throws Error naming the files that differ after a kill */
export async function killAtRandom({ flags, marker, from, folder }: RandomKills): Promise<void> {
  /** Resolves when the part begins. */
  const begin = (out: string): Started & { begun: Promise<unknown> } => {
    const started = start(studyCommand(out, flags));
    const begun = new Promise<void>((done) => {
      started.child.stderr?.on("data", (text: string) => text.includes(marker) && done());
    });
    return { ...started, begun: Promise.race([begun, started.ended]) };
  };
  const prepare = (out: string): void => {
    if (from !== null) cpSync(from, out, { recursive: true });
  };
  const whole = folder("undisturbed");
  prepare(whole);
  const undisturbed = begin(whole);
  await undisturbed.begun;
  const began = performance.now();
  expectDone(await undisturbed.ended);
  const milliseconds = performance.now() - began;
  const expected = contents(whole);

  let kills = 0;
  let runs = 0;
  const moments: number[] = [];
  for (; kills < wantedKills; runs++) {
    const out = folder(`run-${runs}`);
    prepare(out);
    for (;;) {
      const { child, ended, begun } = begin(out);
      await begun;
      const wait = Math.random() * milliseconds;
      if (kills < wantedKills) await Promise.race([setTimeout(wait), ended]);
      if (
        kills < wantedKills &&
        child.exitCode === null &&
        child.kill("SIGKILL") &&
        (await ended).signal === "SIGKILL"
      ) {
        kills++;
        moments.push(wait);
        continue;
      }
      expectDone(await ended);
      break;
    }
    expectSame(contents(out), expected);
  }
  const seconds = moments.map((ms) => (ms / 1000).toFixed(2)).join(", ");
  console.log(
    `${kills} kills in ${runs} runs, ${seconds} s after the part (re)began, which takes ${(milliseconds / 1000).toFixed(1)} s`,
  );
  ok(kills === wantedKills && expected.size > 0);
}
