// Several weights perturbed in one dispatch: those whose values lie in one buffer, and whose slots lie in another. The
// bits are those of a dispatch for each (perturb.ts). A model has hundreds of small tensors, and a dispatch costs as
// much as some thousand elements.
import { groupBy } from "../../host/group-by.ts";
import { defineKernel } from "../../kernel.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { fromArray, spanOf, type Tensor } from "../../tensor.ts";
import { directionFunctions } from "./normals.ts";
import { noiseOf, type Perturbation } from "./perturb.ts";
import * as cpu from "./perturb-together.cpu.ts";

/** A weight, the part of its slot that is written, and in which layout. */
export interface TogetherItem {
  readonly weight: Tensor;
  readonly to: Tensor;
  readonly layout: "rows" | "panels";
  readonly perturbation: Perturbation;
}

/** Tensors with 2³¹ numbers or more are perturbed by themselves: places are u32. */
const mostElements = 2 ** 31;

const togetherKernel = defineKernel({
  name: "perturbTogether",
  axes: { count: "map" },
  bindings: {
    weights: { access: "read" },
    slots: { access: "update" },
    entries: { access: "read", axis: "count" },
  },
  params: { workgroups: "u32" },
  cpu: cpu.perturbTogether,
  wgsl: new URL("./perturb-together.wgsl", import.meta.url),
  uses: ["flat-workgroup", ...directionFunctions, "perturbed"],
  constants: { WORDS: cpu.entryWords },
  workgroups: ({ workgroups }) => [workgroups],
});

/** Whether a weight can be perturbed together with others. */
export function fitsTogether({ weight, to, layout, perturbation }: TogetherItem): boolean {
  return (
    weight.dtype === "f32" &&
    to.dtype === "f32" &&
    weight.segments.length === 1 &&
    to.segments.length === 1 &&
    (perturbation.firstRow ?? 0) === 0 &&
    (layout === "rows" || weight.rowSize % 4 === 0) &&
    [weight, to].every(({ segments: [{ base }], size }) => base + size < mostElements)
  );
}

/**
 * Perturbs items that fit together (`fitsTogether`): as many dispatches as there are pairs of buffers.
 * @returns items that are alone in their buffers, which are left to the caller
 */
export function perturbTogether(items: readonly TogetherItem[]): TogetherItem[] {
  const alone: TogetherItem[] = [];
  for (const group of groupBy(items, buffersOf).values()) {
    if (group.length === 1) alone.push(group[0]);
    else perturbGroup(group);
  }
  return alone;
}

/** A name for the pair of buffers. */
const buffersOf = ({ weight, to }: TogetherItem): string =>
  [weight, to].map(({ segments: [{ buffer }] }) => numberOf(buffer)).join();

const numbers = new WeakMap<object, number>();
let next = 0;
function numberOf(buffer: object): number {
  const known = numbers.get(buffer) ?? next++;
  numbers.set(buffer, known);
  return known;
}

function perturbGroup(group: readonly TogetherItem[]): void {
  const weights = spanOf(group.map(({ weight }) => weight));
  const slots = spanOf(group.map(({ to }) => to));
  if (weights === null || slots === null)
    throw new Error("perturbTogether: the tensors of a group lie in several buffers");
  const { backend } = group[0].weight;
  const entries = new Uint32Array(group.length * cpu.entryWords);
  const bits = new Float32Array(entries.buffer);
  let firstGroup = 0;
  for (const [i, { weight, layout, perturbation }] of group.entries()) {
    const { name0, name1, deltaKey0, deltaKey1, etaKey0, etaKey1, a, b } = noiseOf(weight, perturbation);
    const inPanels = layout === "panels";
    const start = i * cpu.entryWords;
    entries.set(
      [
        ...[firstGroup, inPanels ? 1 : 0, weights.starts[i], slots.starts[i], weight.rows, weight.rowSize],
        ...[name0, name1, deltaKey0, deltaKey1, etaKey0, etaKey1],
      ],
      start,
    );
    bits.set([a, b], start + 12);
    const rows = inPanels ? 8 * Math.ceil(weight.rows / 8) : weight.rows;
    firstGroup += Math.ceil((rows * weight.rowSize) / 4 / 64);
  }
  scope(() =>
    run(
      togetherKernel,
      {
        weights: weights.span,
        slots: slots.span,
        entries: fromArray(backend, entries, [group.length, cpu.entryWords], "u32", "tensors to perturb"),
      },
      { workgroups: firstGroup },
    ),
  );
}
