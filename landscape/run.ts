// The whole study in one command:
//
//   npm start                                  the tiny study, on any machine
//   node landscape/run.ts                      the same
//   node landscape/run.ts study.toml [--landscape.points 21 …]
//   node landscape/run.ts tiny changes.toml    the tiny study with the changes in changes.toml
//   node landscape/run.ts --write-settings study.toml [tiny]
import { runCommand } from "../engine/host/index.ts";
import { filesOfCommand, folderOfCommand, loadModuleOf, notesThatHold, presetNames } from "../rl/index.ts";
import { printPlan } from "./plan/dry-run.ts";
import { studySettings } from "./settings.ts";
import { expectOwnTraining, runStudy } from "./study.ts";

await runCommand({
  name: "node landscape/run.ts",
  summary: "Trains with GRPO, measures reward and KL around checkpoints, and writes a report.",
  settings: studySettings,
  positional: [
    {
      name: "STUDY",
      many: true,
      meaning: `settings files or presets (${presetNames.join(", ")}); later ones win; tiny if none is named`,
    },
  ],
  examples: [
    ["node landscape/run.ts", "the tiny study; a second call continues where the first stopped"],
    ["node landscape/run.ts tiny --landscape.slices 3", "measures two more slices in the same folder"],
    ["node landscape/run.ts tiny --train.seed 101 --out runs/tiny-101", "another training seed"],
    ["node landscape/run.ts my-study.toml", "a study of your own, in runs/my-study"],
    ["node landscape/run.ts tiny my-changes.toml", "the tiny study with these settings changed, in runs/my-changes"],
    [
      "node landscape/run.ts study --dry-run",
      "operations, time, memory and disk of the study, before anything is done",
    ],
    ["node landscape/run.ts --write-settings my-study.toml tiny", "a commented file to start from, which extends tiny"],
  ],
  settingsFiles: (studies, flags) => filesOfCommand(studySettings, studies, flags),
  prepare: loadModuleOf,
  dryRun:
    "Print the resolved settings, operations, time, memory and disk, and stop. It trains, writes and downloads nothing; the time is measured on a small piece of the work.",
  main: async ({ values, sources, positionals, progress, signal, isDryRun }) => {
    expectOwnTraining(values);
    const out = folderOfCommand(positionals, values);
    const notes = notesThatHold(sources, values.notes);
    if (notes.length < values.notes.length)
      progress.line("The settings' notes are about another model, and are left out of the report (notes).");
    await (isDryRun ? printPlan : runStudy)({ ...values, notes, out }, progress, signal);
  },
});
