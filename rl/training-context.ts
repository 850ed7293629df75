// What a training works on, given to each of its parts; and the clock that times them.
import type { Progress, Values } from "../engine/host/index.ts";
import type { Chat } from "../model/index.ts";
import type { Environment } from "./environments/environment.ts";
import type { TrainableModel } from "./learn.ts";
import type { Occupancy } from "./occupancy.ts";
import type { batchSettings, environmentSettings, evaluateSettings, trainSettings } from "./settings.ts";

export interface TrainingSettings {
  readonly environment: Values<typeof environmentSettings>;
  readonly train: Values<typeof trainSettings>;
  readonly evaluate: Values<typeof evaluateSettings>;
  readonly batch: Values<typeof batchSettings>;
}

export interface DraftCounts {
  /** Assistant tokens. */
  readonly tokens: number;
  /** Those of them that a draft proposed. */
  readonly drafted: number;
  /** Those of them that needed no decode step. */
  readonly spared: number;
}

export interface TrainingContext {
  model: TrainableModel;
  chat: Chat;
  environment: Environment;
  settings: TrainingSettings;
  /** The run folder. */
  folder: string;
  /**
   * The folder of the starting model. Its tokenizer and configuration are copied into every checkpoint; a KL penalty
   * reads its weights.
   */
  modelFolder: string;
  progress: Progress;
  signal: AbortSignal;
  /**
   * Called with the seconds of each phase of each step, and for rollouts and evaluations the mean occupancy of the
   * generation batch. For evaluations also with the assistant tokens, those of them that a draft proposed, and those that
   * needed no decode step. Clock readings are kept out of the run's results.
   */
  onTiming?: (
    record: { step: number; phase: string; seconds: number; occupancy?: number } & Partial<DraftCounts>,
  ) => void;
}

/** Each call reports the seconds since the previous call, and the occupancy if there were passes. */
export function stopwatch(
  report: (timing: { phase: string; seconds: number; occupancy?: number }) => void,
): (phase: string, passes?: Occupancy) => void {
  let start = performance.now();
  return (phase, passes) => {
    const now = performance.now();
    const share = passes?.share ?? null;
    report({ phase, seconds: (now - start) / 1000, ...(share !== null && { occupancy: share }) });
    start = now;
  };
}
