// The whole study in one command:
//
//   npm start                                  the tiny study, on any machine
//   node landscape/run.ts                      the same
//   node landscape/run.ts study.toml [--landscape.points 21 …]
//
// A preset is named by its name (tiny), a study of your own by its file.
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "../engine/host/index.ts";
import { SettingsError } from "../engine/index.ts";
import { studySettings } from "./settings.ts";
import { runStudy } from "./study.ts";

const presets = fileURLToPath(new URL("./presets", import.meta.url));

function settingsFile(name: string): string {
  if (existsSync(name)) return name;
  const preset = join(presets, `${name}.toml`);
  if (existsSync(preset)) return preset;
  const names = readdirSync(presets)
    .filter((file) => file.endsWith(".toml"))
    .map((file) => basename(file, ".toml"));
  throw new SettingsError(
    `${name}: expected a settings file or a preset, found neither. Presets: ${names.join(", ")}.`,
  );
}

await runCommand({
  name: "node landscape/run.ts",
  summary: "Trains with GRPO, measures reward and KL around checkpoints, and writes a report.",
  settings: studySettings,
  positional: [{ name: "STUDY", meaning: "a settings file, or the name of a preset; the default is tiny" }],
  settingsFiles: ([study = "tiny"]) => [settingsFile(study)],
  main: async ({ values, positionals: [study = "tiny"], progress, signal }) => {
    const out = values.out === "" ? join("runs", basename(study, ".toml")) : values.out;
    await runStudy({ ...values, out }, progress, signal);
  },
});
