// Loss scaling. In mixed precision the gradients that reach a linear layer are rounded to f16, whose range is 6e-8 to
// 65504. So the loss is multiplied by a power of two before the backward pass, and the optimiser divides the gradients
// by it. Both are exact: values that f16 represents do not change, and smaller gradients are not lost.
//
// The scale adapts. A gradient that is not finite counts as an overflow: the step is skipped and the scale lowered.
// After several consecutive good steps the scale is raised. Skipped steps do not count in the optimiser's bias
// correction.
//
// Source: Micikevicius et al. 2018, section 3.2. Growth, backoff and initial scale are those of PyTorch's GradScaler;
// the scale is raised sooner, because runs here are short.

import { AdapterError, type OpenedBackend } from "../engine/index.ts";

/** @throws AdapterError when mixed precision is requested and the adapter has no f16 */
export function expectPrecision(setting: string, precision: "f32" | "mixed", opened: OpenedBackend): void {
  if (precision === "f32" || opened.hasHalf) return;
  throw new AdapterError(
    `${setting} mixed: expected an adapter with f16 (WebGPU's shader-f16), got ${opened.backend.description}. Choose another ` +
      `with --adapter, or ${setting} f32.`,
  );
}

/** The state that a restart needs. */
export interface LossScaleState {
  readonly scale: number;
  /** Good steps since the scale last changed. */
  readonly goodSteps: number;
  /** Steps skipped since the run began. */
  readonly skipped: number;
}

const firstScale = 65536;
const largestScale = 2 ** 24;
/** Number of consecutive good steps after which the scale is doubled. */
export const raiseAfter = 200;

export class LossScale {
  #state: LossScaleState;

  constructor(state: LossScaleState = { scale: firstScale, goodSteps: 0, skipped: 0 }) {
    this.#state = state;
  }

  get state(): LossScaleState {
    return this.#state;
  }

  /** A power of two, at least 1. */
  get scale(): number {
    return this.#state.scale;
  }

  /** The optimiser's step number at step `step` of the run: it counts only steps that changed the weights. */
  countedStep(step: number): number {
    return step - this.#state.skipped;
  }

  /** Whether the scale can still be lowered, so that it may be the cause of a gradient that is not finite. */
  get canLower(): boolean {
    return this.scale > 1;
  }

  /** Call after a step that changed the weights. */
  stepTaken(): void {
    const { scale, goodSteps, skipped } = this.#state;
    const raise = goodSteps + 1 >= raiseAfter;
    this.#state = {
      scale: raise ? Math.min(scale * 2, largestScale) : scale,
      goodSteps: raise ? 0 : goodSteps + 1,
      skipped,
    };
  }

  /** Call after a step that was skipped because its gradient was not finite. */
  stepSkipped(): void {
    const { scale, skipped } = this.#state;
    this.#state = { scale: Math.max(1, scale / 2), goodSteps: 0, skipped: skipped + 1 };
  }
}

/** The loss scale of a run of this precision: from its saved numbers, or new if there are none; null in f32. */
export function openLossScale(
  precision: "f32" | "mixed",
  saved: Readonly<Record<string, number>> | undefined,
): LossScale | null {
  if (precision === "f32") return null;
  const { lossScale, lossScaleGoodSteps = 0, skippedSteps = 0 } = saved ?? {};
  if (lossScale === undefined) return new LossScale();
  return new LossScale({ scale: lossScale, goodSteps: lossScaleGoodSteps, skipped: skippedSteps });
}

/** The numbers that a run's state saves for `openLossScale`; none in f32. */
export function savedLossScale(lossScale: LossScale | null): Record<string, number> {
  if (lossScale === null) return {};
  const { scale, goodSteps, skipped } = lossScale.state;
  return { lossScale: scale, lossScaleGoodSteps: goodSteps, skippedSteps: skipped };
}
