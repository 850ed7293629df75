// Rays and lines around all checkpoints of a run, after the maps. A checkpoint's own completions are drawn again: they are
// the same bits.
import type { Progress } from "../../engine/host/index.ts";
import type { Backend } from "../../engine/index.ts";
import { type Chat, loadModel } from "../../model/index.ts";
import type { Environment, Timings } from "../../rl/index.ts";
import { writeReference } from "../files/cells.ts";
import type { StudySettings } from "../settings.ts";
import type { DirectionPlace } from "./directions/kinds.ts";
import { expectSweepMemory } from "./memory-plan.ts";
import { raysToMeasure } from "./rays.ts";
import { prepareReference, type SweepContext } from "./sweep.ts";

export interface RaysRun {
  readonly backend: Backend;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: StudySettings;
  /** The run folder. */
  readonly folder: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly timings: Timings;
  placeOf(step: number): DirectionPlace;
}

/** Measures what is missing of rays, fixed KL and lines. Does nothing if none is asked for. */
export async function measureAllRays(run: RaysRun): Promise<void> {
  const { backend, chat, environment, settings, folder, progress, signal, timings } = run;
  const todo = raysToMeasure(folder, settings);
  if (todo.length === 0) return;
  let done = todo.reduce((sum, part) => sum + part.done, 0);
  const total = todo.reduce((sum, part) => sum + part.points, 0);
  const phase = progress.phase("rays", total, "points", done);
  for (const step of new Set(todo.map((part) => part.step))) {
    signal.throwIfAborted();
    const place = run.placeOf(step);
    const { config, weights } = await loadModel(backend, place.folderOf(step), {
      forwardCopies: settings.landscape.precision === "f32",
    });
    try {
      await expectSweepMemory(backend, { config, chat, environment, settings }, signal);
      const context: SweepContext = {
        ...{ model: { backend, config, weights }, chat, environment, settings, place, signal },
        say: (line) => progress.line(line),
        onTiming: (record) => timings.record({ step, ...record }),
      };
      await timings.measure(`rays ${step}`, async () => {
        const { prompts, rollouts } = settings.landscape.reference;
        const drawing = phase.phase("reference", prompts * rollouts, "completions");
        const reference = await prepareReference(context, drawing);
        drawing.done();
        writeReference(folder, step, reference.set);
        for (const part of todo)
          if (part.step === step) done = await part.measure({ context, folder, reference, phase, before: done });
      });
    } finally {
      weights.free();
    }
  }
  phase.done();
}
