// GRPO in one command, without landscapes:
//
//   node rl/train.ts                                     the training of the tiny study, on any machine
//   node rl/train.ts my-run.toml [--train.steps 40 …]
//   node rl/train.ts --write-settings my-run.toml tiny   a commented file to start from
//
// The same command resumes a stopped run; with more steps it extends a finished one. The run folder is that of a study
// without landscapes: `node landscape/run.ts` with the same settings and a section [landscape] measures around its checkpoints.
import { basename } from "node:path";
import { defineSettings, formatDuration, runCommand, type Source } from "../engine/host/index.ts";
import { loadModuleOf } from "./environments/user-module.ts";
import { metricsPath } from "./files/layout.ts";
import { readMetrics } from "./files/metrics.ts";
import { fromTrlSetting, readTrlConfig } from "./from-trl.ts";
import { checkpointFolder } from "./kept-checkpoints.ts";
import { runDeclaration, runRules, runSettings } from "./run-settings.ts";
import { filesOfCommand, folderOfCommand, notesThatHold, presetNames } from "./settings-files.ts";
import { printTrainingPlan } from "./train-plan.ts";
import { evaluationLine, expectRoomForTraining, isTrained, settleRun, trainRun, withRun } from "./training-run.ts";

/** A run's settings, and those of the command alone. */
const settings = defineSettings({ ...runSettings.tree, ...fromTrlSetting }, runSettings.check, {
  ...runRules,
  names: runSettings.names,
});

function trlFile(flags: Source): string {
  const value = flags.given.findLast(({ key }) => key === "from-trl")?.value;
  return typeof value === "string" ? value : "";
}

await runCommand({
  name: "node rl/train.ts",
  summary: "Trains with GRPO. Keeps checkpoints, metrics and every rollout in a run folder.",
  settings,
  positional: [
    {
      name: "RUN",
      many: true,
      meaning: `settings files or presets (${presetNames.join(", ")}); later ones win; tiny if none is named`,
    },
  ],
  examples: [
    ["node rl/train.ts", "trains the embedded tiny model; a second call continues where the first stopped"],
    ["node rl/train.ts tiny --train.steps 40 --out runs/tiny", "trains the finished run further"],
    ["node rl/train.ts my-run.toml", "a run of your own, in runs/my-run"],
    ["node rl/train.ts study --dry-run", "operations, time, memory and disk, before anything is done"],
    [
      "node rl/train.ts --from-trl training_args.json --model.path DIR --environment.name NAME",
      "the run that a GRPOConfig of TRL describes; says what was taken, and what differs",
    ],
    ["node rl/train.ts --write-settings my-run.toml tiny", "a commented file to start from, which extends tiny"],
  ],
  settingsFiles: (named, flags) =>
    trlFile(flags) !== "" && named.length === 0 ? [] : filesOfCommand(settings, named, flags),
  moreSources: (files, flags) => (trlFile(flags) === "" ? [] : [readTrlConfig(trlFile(flags), [...files, flags])]),
  prepare: loadModuleOf,
  dryRun:
    "Print the resolved settings, operations, time, memory and disk, and stop. It trains, writes and downloads nothing; the time is measured on a small piece of the work.",
  main: async ({ values, sources, positionals, progress, signal, isDryRun }) => {
    const start = performance.now();
    const named =
      positionals.length === 0 && values["from-trl"] !== "" ? [basename(values["from-trl"], ".json")] : positionals;
    const out = folderOfCommand(named, values);
    const run = { ...values, out, notes: notesThatHold(sources, values.notes) };
    if (isDryRun) return printTrainingPlan(run, progress, signal);
    await withRun(
      runDeclaration,
      run,
      {
        isFinished: () => isTrained(run),
        expectMemory: expectRoomForTraining,
        work: async (opened, isFinished) => {
          if (isFinished) progress.line(`Training is complete: ${out} has all ${run.train.steps} steps.`);
          await trainRun(opened);
          const stateNote = settleRun(opened);
          if (!isFinished) progress.line(opened.timings.finish((performance.now() - start) / 1000));
          if (stateNote !== null) progress.line(stateNote);
          const rows = readMetrics(metricsPath(out), (message) => progress.line(message));
          const evaluation = evaluationLine(rows, run.evaluate.episodes);
          if (evaluation !== null) progress.line(evaluation);
          const last = run.train.checkpoints.reduce((most, step) => Math.max(most, step), -1);
          if (last >= 0) progress.line(`Last checkpoint: ${checkpointFolder(out, last)}`);
          progress.line(`Curves and page: node landscape/report.ts ${out}`);
          progress.line(`Run folder: ${out}   (${formatDuration(performance.now() - start)})`);
        },
      },
      progress,
      signal,
    );
  },
});
