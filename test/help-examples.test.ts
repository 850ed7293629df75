// The examples in the commands' --help work as printed, in the program's folder: each example begins with its own
// command, and the same help lists all its flags.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { describe } from "./support.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const commands = [
  "landscape/compare.ts",
  "landscape/export.ts",
  "landscape/merge.ts",
  "landscape/report.ts",
  "landscape/run.ts",
  "landscape/sweep.ts",
  "landscape/verify.ts",
  "landscape/work.ts",
  "model/export.ts",
  "model/generate.ts",
  "model/initialise.ts",
  "model/score.ts",
  "rl/evaluate.ts",
  "rl/show.ts",
  "rl/train.ts",
  "rl/warm-start.ts",
];

describe("test/help-examples", (test) => {
  for (const command of commands)
    test(command, () => {
      const { status, stdout } = spawnSync(process.execPath, [command, "--help"], { cwd: root, encoding: "utf8" });
      assert.is(status, 0);
      const examples =
        stdout
          .match(/^Examples\n((?: {2}.*\n)+)/m)?.[1]
          .trimEnd()
          .split("\n") ?? [];
      assert.ok(examples.length > 0, `${command} has no examples`);
      const rest = stdout.slice(stdout.indexOf(examples.at(-1) ?? ""));
      for (const example of examples) {
        assert.ok(example.replace(/^ {2}npx /, "  ").startsWith(`  node ${command}`), example);
        for (const [flag] of example.matchAll(/--[\w.-]+/g))
          assert.match(
            rest,
            new RegExp(`^ +(?:--[\\w.-]+ \\| )?${flag}\\b`, "m"),
            `${example}: ${flag} is no flag of it`,
          );
      }
    });
});
