// Loss scaling. In mixed precision the gradients that reach a linear layer are rounded to f16, which holds nothing below 6e-8
// and nothing above 65504. So the loss is multiplied by a power of two before the backward pass, and the gradients are divided
// by it in the optimiser: neither changes a bit of what f16 can hold, and small gradients are kept.
//
// The scale finds its place by itself: a gradient that is not finite is taken for an overflow, the step is skipped and the
// scale lowered; after a row of good steps it is raised. A skipped step does not count for the optimiser's bias correction.
//
// Source: Micikevicius et al. 2018, section 3.2; growth, backoff and first scale as PyTorch's GradScaler has them, but raised
// sooner, since runs here are short.

import { AdapterError, type OpenedBackend } from "../engine/index.ts";

/** @throws AdapterError when mixed precision is asked of an adapter without f16 */
export function expectPrecision(setting: string, precision: "f32" | "mixed", opened: OpenedBackend): void {
  if (precision === "f32" || opened.hasHalf) return;
  throw new AdapterError(
    `${setting} mixed: expected an adapter with f16 (WebGPU's shader-f16), got ${opened.backend.description}. Choose another ` +
      `with --adapter, or ${setting} f32.`,
  );
}

/** What a restart needs. */
export interface LossScaleState {
  readonly scale: number;
  /** Good steps since the scale last changed. */
  readonly goodSteps: number;
  /** Steps skipped since the run began. */
  readonly skipped: number;
}

const firstScale = 65536;
const largestScale = 2 ** 24;
/** Good steps in a row after which the scale is doubled. */
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

  /** The optimiser's count at step `step` of the run: the steps that changed something. */
  countedStep(step: number): number {
    return step - this.#state.skipped;
  }

  /** Whether a gradient that is not finite may still be the scale's fault. */
  get canLower(): boolean {
    return this.scale > 1;
  }

  /** After a step that changed the weights. */
  stepTaken(): void {
    const { scale, goodSteps, skipped } = this.#state;
    const raise = goodSteps + 1 >= raiseAfter;
    this.#state = {
      scale: raise ? Math.min(scale * 2, largestScale) : scale,
      goodSteps: raise ? 0 : goodSteps + 1,
      skipped,
    };
  }

  /** After a step whose gradient was not finite, and which changed nothing. */
  stepSkipped(): void {
    const { scale, skipped } = this.#state;
    this.#state = { scale: Math.max(1, scale / 2), goodSteps: 0, skipped: skipped + 1 };
  }
}

/** The scale of a run of this precision: from its saved numbers, fresh where there are none; null in f32, which needs none. */
export function openLossScale(
  precision: "f32" | "mixed",
  saved: Readonly<Record<string, number>> | undefined,
): LossScale | null {
  if (precision === "f32") return null;
  const { lossScale, lossScaleGoodSteps = 0, skippedSteps = 0 } = saved ?? {};
  if (lossScale === undefined) return new LossScale();
  return new LossScale({ scale: lossScale, goodSteps: lossScaleGoodSteps, skipped: skippedSteps });
}

/** The numbers of `openLossScale`, for a run's saved state; none in f32. */
export function savedLossScale(lossScale: LossScale | null): Record<string, number> {
  if (lossScale === null) return {};
  const { scale, goodSteps, skipped } = lossScale.state;
  return { lossScale: scale, lossScaleGoodSteps: goodSteps, skippedSteps: skipped };
}
