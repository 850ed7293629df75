// Hands the missing cells of a study out to workers (queue/worker.ts) and puts what they return into the run folder: the same
// files, with the same bytes, as a sweep in this process. This process measures nothing.
//
// Each checkpoint has a queue, so a worker keeps its weights. A result is taken once it has passed all checks; then its job is
// removed. So a job that is in no state on the server was lost with the server's memory, and is handed out again.
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { sha256File, UserError } from "../../engine/host/index.ts";
import { modelFiles } from "../../model/index.ts";
import { readProvenance } from "../../rl/index.ts";
import { readGiven } from "../files/given-checkpoints.ts";
import { furtherParts } from "../measure/further-parts.ts";
import { klFromToMeasure } from "../measure/kl-from.ts";
import { type SweepJob, slicesToSweep } from "../measure/sweep-checkpoints.ts";
import { linesFrom, ownCheckpoints } from "../ray-settings.ts";
import { HandedParts } from "./handed-parts.ts";
import { KeptReferences } from "./kept-references.ts";
import type { CheckpointMessage } from "./messages.ts";
import { ownPlan } from "./plans.ts";
import { SecondWorkers } from "./second-workers.ts";
import { openServer } from "./server.ts";
import { StepQueue } from "./step-queue.ts";
import { type AnnouncedStudy, announcementOf, announcements } from "./study-message.ts";
import { TakenResults } from "./taken-results.ts";
import { WorkerTable } from "./worker-table.ts";

/** How often the server is asked for results, and for lost jobs; milliseconds. */
const askEveryMs = 250;
const renewEveryMs = 5000;

/**
 * Has the missing cells of every slice measured by workers.
 * @throws UserError when the server cannot be reached at first, or cells failed on several workers; what was measured is kept
 */
export async function handOut(job: SweepJob): Promise<void> {
  const { settings, folder, progress, signal } = job;
  const slices = slicesToSweep(folder, settings);
  const klFrom = klFromToMeasure(folder, settings);
  const todo = new Set([...slices, ...klFrom, ...furtherParts(folder, settings)].map(({ step }) => step));
  if (todo.size === 0) return;
  const say = (line: string): void => progress.line(line);
  const server = await openServer(settings.queue, say);
  const announce = server.queue(announcements);
  const workers = new WorkerTable();
  const checks = new SecondWorkers();
  const study = await studyOf(job);
  const references = new KeptReferences(folder, settings.landscape);
  for (const step of settings.landscape.steps) if (!todo.has(step)) references.read(step);
  const steps: StepQueue[] = [];
  for (const step of settings.landscape.steps.filter((one) => todo.has(one))) {
    signal.throwIfAborted();
    const announcement = announcementOf(study, step);
    const parts = new HandedParts(job, step, { slices, klFrom });
    const taken = new TakenResults({ job, study, step, parts, references, workers, say });
    steps.push(new StepQueue({ server, announce, announcement, taken, checks, workers, settings, say }));
  }
  const total = steps.reduce((sum, { taken }) => sum + taken.parts.total, 0);
  const done = (): number => steps.reduce((sum, { taken }) => sum + taken.size, 0);
  const phase = progress.phase("landscape", total, "points", done());
  const announceStop = (): void =>
    say(
      `Stopping. Kept: ${done()} of ${total} grid points. Workers go on with the cells that are handed out, and the same command ` +
        "takes their results.",
    );
  const handingOut = async (): Promise<void> => {
    for (const step of steps) await step.begin();
    say(
      `Handing out ${total - done()} grid points at ${server.shown}. Start workers: node landscape/work.ts --queue ${server.shown}`,
    );
    let renewedMs = performance.now();
    while (!steps.every((step) => step.isDone)) {
      signal.throwIfAborted();
      let took = 0;
      for (const step of steps) took += await step.takeResults();
      const isDue = performance.now() - renewedMs > renewEveryMs;
      if (isDue) renewedMs = performance.now();
      const active = (await Promise.all(steps.map((step) => step.look(isDue)))).flat();
      server.answered();
      const cells = active.reduce((sum, { share, cells: size }) => sum + share * size, 0);
      phase.moveTo(done() + cells, workers.line(active.flatMap(({ progress: of }) => of ?? [])));
      if (took === 0) await setTimeout(askEveryMs, undefined, { signal });
    }
    for (const step of steps) await step.end();
  };
  signal.addEventListener("abort", announceStop);
  try {
    await server.orStopped(handingOut(), signal);
    phase.done();
    for (const line of [...workers.summary(), ...checks.summary(folder)]) say(line);
    const failures = steps.flatMap(({ failures: of }) => of);
    if (failures.length > 0)
      throw new UserError(
        `${failures.length} stripes of cells failed on several workers, so the maps are incomplete. The first: ${failures[0]} All other ` +
          "cells are kept. Mend the cause; the same command hands these out again.",
      );
  } finally {
    signal.removeEventListener("abort", announceStop);
    for (const { taken } of steps) taken.close();
    await server.close();
  }
}

async function studyOf(job: SweepJob): Promise<AnnouncedStudy> {
  const { backend, settings, folder } = job;
  const { files } = readProvenance(folder);
  const place = job.placeAt(settings.landscape.steps[0]);
  const { steps: own, directions } = settings.landscape;
  // Digests are made of what workers read: the other checkpoints only where directions are made from them.
  const readsOthers = [directions.delta, directions.eta].some(
    ({ kind }) => kind === "pca" || kind === "checkpoint-difference",
  );
  const ends = own.flatMap((step) =>
    linesFrom(step, settings.landscape.line, ownCheckpoints(settings)).map((ahead) => step + ahead),
  );
  const steps = [...new Set([...own, ...ends, ...(readsOthers ? place.trajectory : [])])].sort((a, b) => a - b);
  const checkpoints: CheckpointMessage[] = [];
  for (const step of steps) {
    const path = own.includes(step) ? await job.checkpointAt(step) : place.folderOf(step);
    const names = await modelFiles(path);
    const given = readGiven(folder, step);
    checkpoints.push({
      step,
      path: resolve(path),
      hub: given?.commit ? { name: given.path, commit: given.commit } : null,
      sha256: Object.fromEntries(names.map((name) => [name, sha256File(join(path, name))])),
    });
  }
  const allowMixed = settings["allow-mixed"];
  const { trajectory, state } = place;
  return { settings, plan: ownPlan(backend), allowMixed, files, trajectory, state, checkpoints };
}
