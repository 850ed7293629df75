// Weights moved along any directions: W + c₁·d₁ + c₂·d₂ + …, left to right, each step one fma in f32. A direction is a
// Gaussian, drawn again from its counters, or a tensor on the device. At most two Gaussians are one dispatch (perturb.ts).
// Any other mix takes a step at a time in an f32 copy of the weight, which is then written into the slot. Both ways round
// alike.
import type { WeightTensors } from "../../parameters.ts";
import type { WordPair } from "../../random.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { packPanels } from "../matmul/matmul.ts";
import { addDirection } from "./explicit.ts";
import { type Perturbation, perturbIntoSlot } from "./perturb.ts";
import { fitsTogether, perturbTogether, type TogetherItem } from "./perturb-together.ts";

/** One step of a perturbation: a coefficient times a direction of one tensor, a Gaussian's key or a tensor. */
export type DirectionStep =
  | { readonly kind: "gaussian"; readonly key: WordPair; readonly coefficient: number }
  | { readonly kind: "explicit"; readonly tensor: Tensor; readonly coefficient: number };

export type GaussianStep = DirectionStep & { readonly kind: "gaussian" };

export const isGaussian = (step: DirectionStep): step is GaussianStep => step.kind === "gaussian";

/** At most two Gaussian steps as one perturbation. */
export function alongBoth([first, second]: readonly GaussianStep[]): Omit<Perturbation, "nameWords"> {
  return {
    deltaKey: first?.key ?? [0, 0],
    etaKey: second?.key ?? [0, 0],
    a: first?.coefficient ?? 0,
    b: second?.coefficient ?? 0,
  };
}

/** A weight, and the slot that it is moved into. */
export interface Move {
  /** [O, …] f32; not changed */
  readonly weight: Tensor;
  /** As in `perturbIntoSlot`. */
  readonly slot: WeightTensors;
  /** `wordsOf` the weight's name, for Gaussian steps. */
  readonly nameWords: WordPair;
  /** In order; tensors have the weight's shape. */
  readonly steps: readonly DirectionStep[];
}

/**
 * `moveIntoSlot` for several weights, to the same bits. Those that lie in one buffer and go into one are moved by one dispatch, if
 * their steps are at most two Gaussians.
 */
export function moveIntoSlots(moves: readonly Move[]): void {
  const together = new Map<TogetherItem, Move>();
  for (const move of moves) {
    const item = togetherOf(move);
    if (item === null) moveIntoSlot(move.weight, move.slot, move.nameWords, move.steps);
    else together.set(item, move);
  }
  const alone = new Set(perturbTogether([...together.keys()]));
  for (const [item, { slot }] of together) {
    if (alone.has(item)) perturbIntoSlot(item.weight, slot, item.perturbation);
    else if (slot.rows !== null && slot.panels !== null) packPanels(slot.rows, slot.panels);
  }
}

/** A move as one of several in a dispatch; null if it needs its own. Where a slot has rows and panels, these are packed afterwards. */
function togetherOf({ weight, slot, nameWords, steps }: Move): TogetherItem | null {
  const left = steps.filter(({ coefficient }) => coefficient !== 0);
  const to = slot.rows ?? slot.panels;
  if (to === null || left.length > 2 || !left.every(isGaussian)) return null;
  const layout = slot.rows === null ? "panels" : "rows";
  const item = { weight, to, layout, perturbation: { ...alongBoth(left), nameWords } } as const;
  return fitsTogether(item) ? item : null;
}

/**
 * Writes ((W + c₁·d₁) + c₂·d₂) + … into a slot, each step rounded once. A step whose coefficient is 0 is left out, so
 * without others the slot is W bit for bit. Rows and panels get the same bits.
 * @param weight     [O, …] f32; not changed
 * @param slot       as in `perturbIntoSlot`
 * @param nameWords  `wordsOf` the weight's name, for Gaussian steps
 * @param steps      in order; tensors have the weight's shape
 * @param firstRow   the weight's first row, if it is a part of a larger tensor; a multiple of 8. Default 0
 * @throws ShapeError when a shape does not fit
 */
export function moveIntoSlot(
  weight: Tensor,
  slot: WeightTensors,
  nameWords: WordPair,
  steps: readonly DirectionStep[],
  firstRow = 0,
): void {
  const write = (from: Tensor, into: WeightTensors, gaussians: readonly GaussianStep[]): void =>
    perturbIntoSlot(from, into, { ...alongBoth(gaussians), nameWords, firstRow });
  scope(() => {
    let from = weight;
    let left = steps.filter(({ coefficient }) => coefficient !== 0);
    while (left.length > 2 || !left.every(isGaussian)) {
      const [step] = left;
      if (isGaussian(step) || from === weight) {
        const rows = empty(weight.backend, weight.shape, weight.dtype, "moved weights");
        write(from, { rows, panels: null }, isGaussian(step) ? [step] : []);
        from = rows;
      }
      if (!isGaussian(step)) addDirection(from, step.tensor, step.coefficient);
      left = left.slice(1);
    }
    write(from, slot, left.filter(isGaussian));
  });
}
