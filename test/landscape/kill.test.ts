// Killed at chosen moments (kill -9: no handler runs), the same command goes on, and the finished run equals an undisturbed
// one byte for byte, but for what may hold a clock: timings.jsonl, TensorBoard and provenance.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A study of 3 steps and 3 × 3 points. */
const small = {
  "train.steps": "3",
  "train.promptsPerStep": "2",
  "train.rolloutsPerPrompt": "3",
  "train.checkpoints": "0,2,3",
  "evaluate.every": "2",
  "evaluate.episodes": "4",
  "landscape.steps": "0,3",
  "landscape.points": "3",
  "landscape.pointsAtOnce": "2",
  "landscape.reference.prompts": "3",
  "landscape.reference.rollouts": "2",
  "landscape.rollouts.prompts": "4",
  "landscape.simulations": "5",
};

function study(out: string, killAt?: string): { status: number | null; signal: string | null; text: string } {
  const flags = Object.entries(small).flatMap(([key, value]) => [`--${key}`, value]);
  const run = spawnSync(process.execPath, ["landscape/run.ts", "tiny", "--out", out, ...flags], {
    cwd: root,
    env: { ...process.env, CI: "1", ...(killAt === undefined ? {} : { FOOTHOLD_KILL_AT: killAt }) },
    encoding: "utf8",
    timeout: 600_000,
  });
  return { status: run.status, signal: run.signal, text: `${run.stdout}${run.stderr}` };
}

const mayHoldClocks = /(^|\/)(timings\.jsonl|provenance\.json|tensorboard\/.*|\.lock.*)$/;

function contents(folder: string): Map<string, Buffer> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(join(folder, file)).isFile() && !mayHoldClocks.test(file))
    .sort();
  return new Map(files.map((file) => [file, readFileSync(join(folder, file))]));
}

describe("landscape/kill", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-kill-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const undisturbed = join(place, "undisturbed", "study");

  test("the undisturbed study ends well", () => {
    const { status, text } = study(undisturbed);
    if (status !== 0) throw new Error(`exit code ${status}: ${text}`);
  });

  for (const [moment, killAt] of [
    ["after the rollouts of a step", "rollout:2"],
    ["between the optimiser step and its record", "step:3"],
    ["while a checkpoint is written", "write-folder:4"],
    ["while a batch of cells is journalled", "journal:2"],
    ["before the report", "report:1"],
  ])
    test(`killed ${moment}`, () => {
      const out = join(place, killAt.replace(":", "-"), "study");
      const killed = study(out, killAt);
      if (killed.signal !== "SIGKILL") throw new Error(`${killAt} did not kill it: ${killed.status} ${killed.text}`);
      const { status, text } = study(out);
      if (status !== 0) throw new Error(`going on: exit code ${status}: ${text}`);
      const expected = contents(undisturbed);
      const got = contents(out);
      const names = [...new Set([...expected.keys(), ...got.keys()])];
      const different = names.filter((name) => !expected.get(name)?.equals(got.get(name) ?? Buffer.from("absent")));
      if (different.length > 0) throw new Error(`differs from the undisturbed run: ${different.join(", ")}`);
    });
});
