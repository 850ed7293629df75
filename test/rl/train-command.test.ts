// GRPO alone: its folder is that of a study without landscapes, to the byte, and each of the two commands knows what the
// other one began.
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { is, match, ok } from "uvu/assert";
import {
  contents,
  type Ended,
  expectDone,
  expectSame,
  type Flags,
  interrupt,
  runStudy,
  small,
  start,
} from "../landscape/tiny-study.ts";
import { SmallDisk } from "../small-disk.ts";
import { describe, fixturePath } from "../support.ts";

const training: Flags = Object.fromEntries(Object.entries(small).filter(([key]) => !key.startsWith("landscape.")));

function command(out: string, flags: Flags = {}, more: readonly string[] = []): string[] {
  const all = Object.entries({ ...training, ...flags, out });
  return ["rl/train.ts", "tiny", ...all.flatMap(([key, value]) => [`--${key}`, value]), ...more];
}

describe("rl/train command", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-train-command-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // One name, so that nothing in the files differs by it.
  const folder = (name: string) => join(place, name, "run");
  const train = (out: string, flags: Flags = {}, more: readonly string[] = []): Promise<Ended> =>
    start(command(out, flags, more)).ended;

  const alone = folder("alone");
  test("trains, and says what it kept; what is read by the landscape alone is left out and named", async () => {
    const said = expectDone(await train(alone));
    match(said, /tiny\.toml: its section \[landscape\] is left out here: only (npx )?node landscape\/run\.ts reads it/);
    match(said, "Sampler and scorer: mismatch KL 0 nats per token at most (prime-rl admits less than 0.015).");
    match(
      contents(alone).get("metrics.jsonl")?.toString() ?? "",
      '"sampling/importance_sampling_ratio/max":1,"mismatch_kl/mean":0',
    );
    match(readFileSync(join(alone, "timings.jsonl"), "utf8"), '{"step":1,"phase":"step","seconds":');
    match(said, /Evaluation on 4 episodes: reward .* at step 0, .* at step 3/);
    match(said, `Last checkpoint: ${join(alone, "checkpoints/step-000003")}`);
    ok(!contents(alone).get("config.toml")?.toString().includes("[landscape]"));
    match(expectDone(await train(alone)), "Training is complete: ");
  });

  const disk = new SmallDisk(join(place, "disk"));
  const mounted = disk.folder;
  if (disk.missing !== null) test.skip("a training that does not fit on the disk", disk.missing);
  else
    test("a training that does not fit on the disk is refused before it takes the folder", () =>
      disk.with("size=2m", async () => {
        const out = join(mounted, "run");
        const { status, stderr } = await train(out);
        is(status, 2);
        match(stderr, /training needs .* of disk, .* are free/);
        ok(!existsSync(out), "the folder of other settings");
        // Not even the lock fits on a full disk; folders do.
        const ballast = openSync(join(mounted, "ballast"), "w");
        try {
          for (;;) writeSync(ballast, new Uint8Array(4096));
        } catch (thrown) {
          match(String(thrown), "ENOSPC");
        } finally {
          closeSync(ballast);
        }
        const full = await train(out);
        is(full.status, 2);
        match(full.stderr, "the disk is full");
        ok(!existsSync(out), "a folder with a lock that is cut off");
      }));

  test("a stopped run goes on, and a finished one is extended, to the bytes of an undisturbed one", async () => {
    const stopped = folder("stopped");
    await interrupt(() => start(command(stopped)), stopped, "rollouts/step-000001.jsonl.gz");
    expectDone(await train(stopped));
    expectSame(contents(stopped), contents(alone));
    const longer = { "train.steps": "4", "train.checkpoints": "0,3,4" };
    cpSync(alone, folder("extended"), { recursive: true });
    expectDone(await train(folder("extended"), longer));
    expectDone(await train(folder("longer"), longer));
    expectSame(contents(folder("extended")), contents(folder("longer")));
  });

  test("a study takes the folder up and measures around its checkpoints, to the bytes of a study from the start", async () => {
    cpSync(alone, folder("taken-up"), { recursive: true });
    expectDone(await runStudy(folder("taken-up")));
    expectDone(await runStudy(folder("study")));
    expectSame(contents(folder("taken-up")), contents(folder("study")));
    const { status, stderr } = await train(folder("taken-up"));
    is(status, 2);
    match(stderr, /config\.toml has a section \[landscape\], so (npx )?node landscape\/run\.ts works in this folder/);
  });

  test("figures and page are drawn from a training alone", async () => {
    const drawn = folder("drawn");
    cpSync(alone, drawn, { recursive: true });
    match(expectDone(await start(["landscape/report.ts", drawn]).ended), "Report: ");
    for (const file of ["figures/training", "figures/training-health"])
      for (const ending of ["svg", "png", "csv"]) ok(existsSync(join(drawn, `${file}.${ending}`)), `${file}.${ending}`);
    const [head, , first] = readFileSync(join(drawn, "figures/training-health.csv"), "utf8").split("\n");
    match(head, "step,entropy,frac_reward_zero_std,completions/truncated_share");
    const row = JSON.parse(contents(alone).get("metrics.jsonl")?.toString().split("\n")[1] ?? "");
    is(Number(first.split(",")[1]), row["entropy"]);
  });

  test("--dry-run: the plan of the training, and nothing is written", async () => {
    const { status, stdout, stderr } = await train(folder("planned"), {}, ["--dry-run"]);
    is(status, 0, stderr);
    for (const said of ["steps = 3", "training: rollouts", /^Memory:/m, /^Time: /m, /^Disk: about /m])
      match(stdout, said);
    ok(!stdout.includes("landscape"));
    ok(!existsSync(folder("planned")));
  });

  test("the example of docs/smollm2.md is found with its task, from any folder", async () => {
    const model = fixturePath("tiny-warm-start");
    const argv = ["rl/train.ts", "docs/examples/names.toml"].map((path) =>
      fileURLToPath(new URL(`../../${path}`, import.meta.url)),
    );
    const asked = [...argv, "--model.path", model, "--out", folder("example"), "--dry-run"];
    const { status, stdout, stderr } = await start(asked, {}, place).ended;
    is(status, 0, stderr);
    match(stdout, 'name = "names"');
    match(stdout, "training: rollouts");
  });

  test("refused before anything is written: other settings, a flag of the landscape, a folder that is cut short", async () => {
    const before = contents(alone);
    const refused = async (
      expected: string | RegExp,
      flags: Flags,
      more: readonly string[] = [],
      out = alone,
    ): Promise<void> => {
      const { status, stderr } = await train(out, flags, more);
      is(status, 2, stderr);
      match(stderr, expected);
    };
    await refused("train.learningRate: 0.0006 -> 1", { "train.learningRate": "1" });
    await refused(/unknown flag --landscape\.points; it is a flag of (npx )?node landscape\/run\.ts/, {}, [
      "--landscape.points",
      "3",
    ]);
    await refused("train.checkpoints: step 3 is after the last one, train.steps = 2", { "train.steps": "2" });
    expectSame(contents(alone), before);
    const cut = folder("cut");
    cpSync(alone, cut, { recursive: true });
    const text = before.get("config.toml")?.toString() ?? "";
    writeFileSync(join(cut, "config.toml"), text.slice(0, text.indexOf("[batch]")));
    await refused("cut short: it has no settings in [batch]", {}, [], cut);
    const { status, stderr } = await runStudy(cut);
    is(status, 2);
    match(stderr, "cut short: it has no settings in [landscape]");
  });
});
