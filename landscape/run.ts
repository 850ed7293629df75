// The whole study in one command:
//
//   npm start                                  the tiny study, on any machine
//   node landscape/run.ts                      the same
//   node landscape/run.ts study.toml [--landscape.points 21 …]
//
// A preset is named by its name (tiny), a study of your own by its file.
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand, SettingsError } from "../engine/host/index.ts";
import { studySettings } from "./settings.ts";
import { runStudy } from "./study.ts";

const presets = fileURLToPath(new URL("./presets", import.meta.url));

const presetNames = readdirSync(presets)
  .filter((file) => file.endsWith(".toml"))
  .map((file) => basename(file, ".toml"));

function settingsFile(name: string): string {
  if (statSync(name, { throwIfNoEntry: false })?.isFile()) return name;
  const preset = join(presets, `${name}.toml`);
  if (existsSync(preset)) return preset;
  throw new SettingsError(
    `${name}: expected a settings file or a preset, found neither. Presets: ${presetNames.join(", ")}.`,
  );
}

await runCommand({
  name: "node landscape/run.ts",
  summary: "Trains with GRPO, measures reward and KL around checkpoints, and writes a report.",
  settings: studySettings,
  positional: [
    { name: "STUDY", meaning: `a settings file, or a preset: ${presetNames.join(", ")}; tiny if none is named` },
  ],
  examples: [
    ["node landscape/run.ts", "the tiny study; again: goes on where it stopped"],
    ["node landscape/run.ts tiny --landscape.slices 3", "measures two more slices in the same folder"],
    ["node landscape/run.ts tiny --train.seed 101 --out runs/tiny-101", "another training seed"],
    ["node landscape/run.ts my-study.toml", "a study of your own, in runs/my-study"],
  ],
  settingsFiles: ([study = "tiny"]) => [settingsFile(study)],
  main: async ({ values, positionals: [study = "tiny"], progress, signal }) => {
    const out = values.out === "" ? join("runs", basename(study, ".toml")) : values.out;
    await runStudy({ ...values, out }, progress, signal);
  },
});
