// GRPO in one command, without landscapes:
//
//   node rl/train.ts                                     the training of the tiny study, on any machine
//   node rl/train.ts my-run.toml [--train.steps 40 …]
//   node rl/train.ts --write-settings my-run.toml tiny   a commented file to start from
//
// The same command resumes a stopped run; with more steps it extends a finished one. The run folder is that of a study
// without landscapes: `node landscape/run.ts` with the same settings and a section [landscape] measures around its checkpoints.
import { formatDuration, inOwnWords, runCommand } from "../engine/host/index.ts";
import { loadModuleOf } from "./environments/user-module.ts";
import { metricsPath } from "./files/layout.ts";
import { readMetrics } from "./files/metrics.ts";
import { checkpointFolder } from "./kept-checkpoints.ts";
import { runDeclaration, runSettings } from "./run-settings.ts";
import { filesOfCommand, folderOfCommand, notesThatHold, presetNames } from "./settings-files.ts";
import { printTrainingPlan } from "./train-plan.ts";
import { evaluationLine, expectMemoryOfTraining, isTrained, settleRun, trainRun, withRun } from "./training-run.ts";

await runCommand({
  name: "node rl/train.ts",
  summary: "Trains with GRPO. Keeps checkpoints, metrics and every rollout in a run folder.",
  settings: runSettings,
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
    ["node rl/train.ts --write-settings my-run.toml tiny", "a commented file to start from, which extends tiny"],
  ],
  settingsFiles: (named, flags) => filesOfCommand(runSettings, named, flags),
  prepare: loadModuleOf,
  dryRun:
    "Print the resolved settings, operations, time, memory and disk, and stop. It trains, writes and downloads nothing; the time is measured on a small piece of the work.",
  main: async ({ values, sources, positionals, progress, signal, isDryRun }) => {
    const start = performance.now();
    const out = folderOfCommand(positionals, values);
    const settings = { ...values, out, notes: notesThatHold(sources, values.notes) };
    if (isDryRun) return printTrainingPlan(settings, progress, signal);
    await withRun(
      runDeclaration,
      settings,
      {
        isFinished: () => isTrained(settings),
        expectMemory: expectMemoryOfTraining,
        work: async (run, isFinished) => {
          if (isFinished) progress.line(`Training is complete: ${out} has all ${settings.train.steps} steps.`);
          await trainRun(run);
          const stateNote = settleRun(run);
          if (!isFinished) progress.line(run.timings.finish((performance.now() - start) / 1000));
          if (stateNote !== null) progress.line(stateNote);
          const rows = readMetrics(metricsPath(out), (message) => progress.line(message));
          const evaluation = evaluationLine(rows, settings.evaluate.episodes);
          if (evaluation !== null) progress.line(evaluation);
          const last = settings.train.checkpoints.reduce((most, step) => Math.max(most, step), -1);
          if (last >= 0) progress.line(`Last checkpoint: ${checkpointFolder(out, last)}`);
          progress.line(inOwnWords(`Curves and page: node landscape/report.ts ${out}`));
          progress.line(`Run folder: ${out}   (${formatDuration(performance.now() - start)})`);
        },
      },
      progress,
      signal,
    );
  },
});
