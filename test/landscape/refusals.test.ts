// What a user meets before a run begins when something is wrong: one message that says what, where and how to mend it, exit
// code 2, no stack, and no file.
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { describe, fixturePath } from "../support.ts";
import { contents, expectRefused, runStudy, small, start, studyCommand } from "./tiny-study.ts";

describe("landscape/refusals", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-refusals-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  let folders = 0;
  const newOut = (): string => join(place, String(folders++), "study");
  const file = (name: string, text: string): string => {
    const path = join(place, name);
    writeFileSync(path, text);
    return path;
  };

  test("settings: all that is wrong in one message, and nothing is begun", async () => {
    const path = file(
      "wrong.toml",
      "[train]\nstep = 3\nlearningRate = 0\n\n[landscape.reference]\nrollouts = 1\n[landscape]\npoints = 'many'\n",
    );
    const out = newOut();
    expectRefused(
      await start(studyCommand(out, { "landscape.radius": "-1" }, path)).ended,
      "5 settings are wrong",
      `unknown setting train.step (${path}, line 2); did you mean train.steps?`,
      `train.learningRate: expected a number, above 0, got 0 (${path}, line 3)`,
      `landscape.reference.rollouts: expected an integer, at least 2, got 1 (${path}, line 6)`,
      `landscape.points: expected an integer, at least 2, got "many" (${path}, line 8)`,
      "landscape.radius: expected a number, above 0, got -1 (--landscape.radius -1)",
    );
    expectRefused(
      await runStudy(out, { "landscape.steps": "3,5", "train.checkpoints": "0,3,7" }),
      "landscape.steps: step 5 has no checkpoint",
      "train.checkpoints: step 7 is after the last one, train.steps = 3",
    );
    expectRefused(
      await start(studyCommand(out, {}, "tinny")).ended,
      "tinny: expected a settings file or a preset",
      "tiny",
    );
    // Shorter training: what no longer fits is said at once, in all sections.
    expectRefused(
      await runStudy(out, { "train.steps": "1", "landscape.steps": "0,3", "train.checkpoints": "0,3" }),
      "landscape.steps: step 3 has no checkpoint; the last step is train.steps = 1",
      "train.checkpoints: step 3 is after the last one, train.steps = 1",
    );
    expectRefused(
      await start(studyCommand(out, {}, place)).ended,
      `${place}: expected a settings file or a preset, this is a folder`,
      "--checkpoints 'out/checkpoint-*'",
    );
    expectRefused(
      await start(["landscape/report.ts", join(place, "none")]).ended,
      "expected a run folder, there is no such folder",
    );
    assert.not.ok(existsSync(out));
  });

  test("one rollout a prompt gives J no advantages, and the message says so", async () => {
    const path = file("one.toml", "landscape.reference.rollouts = 1\n");
    const { "landscape.reference.rollouts": _, ...flags } = small;
    const argv = Object.entries({ ...flags, out: newOut() }).flatMap(([key, value]) => [`--${key}`, value]);
    expectRefused(
      await start(["landscape/run.ts", path, ...argv]).ended,
      "landscape.reference.rollouts: expected an integer, at least 2, got 1",
      "with one every advantage is 0",
    );
  });

  test("a model that is not there, or cut short", async () => {
    const out = newOut();
    expectRefused(
      await runStudy(out, { "model.path": join(place, "nothing") }),
      join(place, "nothing"),
      "expected a model folder",
    );
    const cut = join(place, "cut");
    cpSync(fixturePath("tiny-warm-start"), cut, { recursive: true });
    const weights = join(cut, "model.safetensors");
    truncateSync(weights, statSync(weights).size - 1000);
    expectRefused(await runStudy(out, { "model.path": cut }), weights, "Was it cut short?");
    assert.equal([...contents(out).keys()], []);
  });

  if (process.platform !== "linux") test.skip("no adapter at all", "how drivers are hidden here is Linux's");
  else
    test("no adapter at all", async () => {
      const hide = file(
        "hide.mjs",
        `import module, { syncBuiltinESMExports } from "node:module";
const { createRequire } = module;
module.createRequire = (from) => {
  const require = createRequire(from);
  const { paths } = require.resolve;
  require.resolve.paths = (name) => (name === "@sparticuz/chromium" ? [] : paths(name));
  return require;
};
syncBuiltinESMExports();
`,
      );
      const hidden = join(place, "no-driver.json");
      const environment = {
        NODE_OPTIONS: `--import=${hide}`,
        FOOTHOLD_ADAPTER: "",
        VK_DRIVER_FILES: hidden,
        VK_ICD_FILENAMES: hidden,
      };
      expectRefused(
        await runStudy(newOut(), { backend: "webgpu" }, environment),
        "--backend webgpu: no adapter was found",
        "the optional package @sparticuz/chromium is not installed: run npm ci without --omit=optional",
        "or run with --backend cpu",
      );
      expectRefused(await runStudy(newOut(), { adapter: "hardware" }, environment), "expected a GPU, got no adapter");
      expectRefused(
        await runStudy(newOut(), { adapter: "geforce" }, environment),
        'no adapter\'s name contains "geforce"',
      );
    });

  test("an output folder that is a file, or another's", async () => {
    expectRefused(await runStudy(file("taken", "")), join(place, "taken"), "a file of this name is in the way");
    const out = newOut();
    mkdirSync(join(out, "figures"), { recursive: true });
    writeFileSync(join(out, "report.html"), "mine");
    expectRefused(await runStudy(out), "found figures, report.html without config.toml", `--out ${out}-2`);
    assert.equal([...contents(out)].map(String), [`report.html,mine`]);
  });
});
