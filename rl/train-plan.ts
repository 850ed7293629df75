// `--dry-run` of a training run, and the parts of it that a study's plan shares (landscape/plan).
import { expectFolderPlace, type Progress, resolvedToml } from "../engine/host/index.ts";
import { adapterLine, type Backend, openBackend } from "../engine/index.ts";
import type { MemoryLimit } from "../model/index.ts";
import { trainedSteps } from "./checkpoint.ts";
import {
  type PlannedMemory,
  plannedModel,
  printDisk,
  printMemory,
  printModel,
  printTime,
  workTable,
} from "./dry-run.ts";
import { openEnvironment } from "./environments/registry.ts";
import { stateFolder } from "./files/layout.ts";
import { checkSettings } from "./files/run-folder.ts";
import { trainingDisk } from "./folder-size.ts";
import { expectPrecision } from "./loss-scale.ts";
import { expectTrainingMemory, type TrainingJob } from "./plan.ts";
import { policyProbe, probeRates, type WorkSizes } from "./probe.ts";
import { type RunValues, runDeclaration } from "./run-settings.ts";
import { type Lengths, trainingWork, type WorkPart } from "./work-parts.ts";

/** Prints the plan of a training run on standard output. @throws as the run itself would on settings that are refused */
export async function printTrainingPlan(settings: RunValues, progress: Progress, signal: AbortSignal): Promise<void> {
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const environment = await openEnvironment(settings.environment, { progress, signal, isDryRun: true });
  expectFolderPlace(settings.out);
  await checkSettings(settings.out, runDeclaration, settings);
  const model = await plannedModel(settings.model.path);
  const { config, chat, folder } = model;
  const opened = await openBackend({ backend: settings.backend, adapter: settings.adapter, tune: "off" });
  const { backend } = opened;
  try {
    print(`# Settings\n\n${resolvedToml(runDeclaration.settings, settings)}\n`);
    print("# Plan of the whole run (nothing is written, trained or downloaded by --dry-run)\n");
    progress.line(adapterLine(opened));
    expectPrecision("--train.precision", settings.train.precision, opened);
    printModel(settings.model.path, model, print);
    const trained = trainedSteps(stateFolder(settings.out));
    if (trained !== null)
      print(
        `  ${settings.out} already holds ${trained} of ${settings.train.steps} training steps. The plan below is of the ` +
          "whole run; the run continues there.",
      );
    const { parts, lengths, knowsRight } = trainingWork(config, chat, environment, settings);
    for (const line of workTable(parts, knowsRight)) print(line);
    print("");
    const job = { config, chat, environment, settings };
    const fits = await printMemory(backend, [trainingMemory(backend, job)], print);
    progress.line("Measuring this adapter …");
    const rates = await probeRates(backend, config, probeSizes(settings, parts, lengths), fits, signal);
    printTime(parts, rates, knowsRight, "Not counted: loading and files.", print);
    printDisk(trainingDisk(config, environment, settings, folder), settings.out, print);
  } finally {
    backend.destroy();
  }
}

/** Training's part of the memory plan. */
export function trainingMemory(backend: Backend, job: TrainingJob): PlannedMemory {
  return {
    name: job.settings.train.steps > 0 ? "training" : "evaluation of the starting model",
    plan: (limit: MemoryLimit | null) => expectTrainingMemory(backend, job, { limit, compiles: false }),
  };
}

/** The sizes at which the adapter is timed. @param longest  of the conversations of the run's largest part */
export function probeSizes(
  { train, batch }: Pick<RunValues, "train" | "batch">,
  parts: readonly WorkPart[],
  longest: Lengths,
): WorkSizes {
  const prompt = Math.max(1, Math.round(longest.prompt));
  const most = Math.max(...parts.map(({ conversations }) => conversations));
  return {
    rows: Math.min(batch.rows, most),
    tokens: batch.tokens,
    trainTokens: Math.min(batch.trainTokens, batch.tokens),
    conversation: prompt + Math.max(1, Math.round(longest.followUp + longest.answer.right)),
    prompt,
    recompute: batch.recompute,
    train:
      train.steps > 0 && train.method === "grpo"
        ? policyProbe(train, { maxTokens: batch.trainTokens, recompute: batch.recompute })
        : null,
    precision: train.precision,
  };
}
