// What a part of the measurements around a checkpoint is given.
import type { Phase } from "../../engine/host/index.ts";
import type { Reference } from "./reference.ts";
import type { SweepContext } from "./sweep-context.ts";

export interface PartJob {
  readonly context: SweepContext;
  /** The run folder. */
  readonly folder: string;
  /** The checkpoint's own completions. */
  readonly reference: Reference;
  readonly phase: Phase;
  /** Points that `phase` has already counted. */
  readonly before: number;
}
