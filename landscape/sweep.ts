// Maps around checkpoints of any training, without training:
//
//   node landscape/sweep.ts --checkpoints 'out/checkpoint-*'
//   node landscape/sweep.ts study.toml --checkpoints 'out/checkpoint-*' --shard 0/2 --out runs/part-0
import { basename, join } from "node:path";
import { runCommand } from "../engine/host/index.ts";
import { filesOf, loadModuleOf, presetNames } from "../rl/index.ts";
import { printPlan } from "./plan/dry-run.ts";
import { studySettings } from "./settings.ts";
import { runSweep, withGivenSteps } from "./sweep-study.ts";

await runCommand({
  name: "node landscape/sweep.ts",
  summary:
    "Measures reward and KL around checkpoints of any training (TRL, verl, prime-rl, transformers, the hub), and writes a report.",
  settings: studySettings,
  positional: [
    { name: "STUDY", many: true, meaning: `settings files or presets (${presetNames.join(", ")}); later ones win` },
  ],
  examples: [
    [
      "node landscape/sweep.ts tiny --checkpoints 'out/checkpoint-*'",
      "one map per checkpoint, as large as the tiny study's",
    ],
    [
      "node landscape/sweep.ts tiny --checkpoints 'runs/tiny/checkpoints/step-*' --shard 0/2 --out runs/part-0",
      "the first half of every map; landscape/merge.ts joins the halves",
    ],
    [
      "node landscape/sweep.ts --checkpoints Qwen/Qwen2.5-0.5B-Instruct@main --dry-run",
      "time, memory and disk of a map of 21 × 21 points around one model of the hub",
    ],
  ],
  settingsFiles: (studies, flags) => {
    const base = flags.given.findLast(({ key }) => key === "extends")?.value;
    return filesOf(studySettings, typeof base === "string" && base !== "" ? [base, ...studies] : studies);
  },
  prepare: loadModuleOf,
  dryRun:
    "Print the resolved settings, operations, time, memory and disk of all maps, and stop. It writes and downloads nothing.",
  main: async ({ values, sources, positionals, progress, signal, isDryRun }) => {
    const study = positionals.at(-1);
    const out =
      values.out !== ""
        ? values.out
        : join("runs", study === undefined ? "sweep" : `${basename(study, ".toml")}-sweep`);
    // A study's notes are about the model that it trains.
    const last = (key: string): number => sources.findLastIndex(({ given }) => given.some((one) => one.key === key));
    const notes = last("notes") >= last("checkpoints") ? values.notes : [];
    const settings = { ...values, notes, out };
    if (isDryRun) await printPlan(withGivenSteps(settings), progress, signal);
    else process.stdout.write(await runSweep(settings, progress, signal));
  },
});
