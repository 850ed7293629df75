// Rows of an embedding table that is moved along directions: θ's rows are looked up, and each is moved by itself, with the
// rounding of `moveIntoSlot`. So no moved table is needed.
import { defineKernel } from "../../kernel.ts";
import type { WordPair } from "../../random.ts";
import { run } from "../../run.ts";
import { scope } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { lookUp } from "../embedding/embedding.ts";
import { alongBoth, type DirectionStep, type GaussianStep, isGaussian } from "./along.ts";
import { addDirection } from "./explicit.ts";
import * as cpu from "./looked-up.cpu.ts";
import { directionFunctions } from "./normals.ts";
import { noiseOf, noiseParams } from "./perturb.ts";

const perturbLookedUpKernel = defineKernel({
  name: "perturbLookedUp",
  axes: { rows: "map" },
  bindings: { ids: { access: "read", axis: "rows" }, y: { access: "update", axis: "rows" } },
  params: { ...noiseParams, fours: "u32" },
  cpu: cpu.perturbLookedUp,
  wgsl: new URL("./perturb-looked-up.wgsl", import.meta.url),
  uses: ["flat-workgroup", ...directionFunctions, "perturbed"],
  workgroups: ({ rows, fours }) => [Math.ceil((rows * fours) / 64)],
});

const keepHalvesKernel = defineKernel({
  name: "keepHalves",
  axes: { rows: "map" },
  bindings: { x: { access: "update", axis: "rows" } },
  params: { rowSize: "u32" },
  cpu: cpu.keepHalves,
  wgsl: new URL("./keep-halves.wgsl", import.meta.url),
  uses: ["flat-workgroup", "halves", "kept-halves"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / 64)],
});

/**
 * y[t] = ((W + c₁·d₁) + c₂·d₂) + … at row ids[t], each step rounded once: the bits of a lookup in a slot.
 * @param ids        [T] u32
 * @param weight     [V, C] f32; not changed
 * @param y          [T, C], written
 * @param nameWords  `wordsOf` the weight's name, for Gaussian steps
 * @param steps      in order; tensors have the weight's shape
 * @param isHalf     whether the results are rounded to f16, as in a slot of f16 panels; a number that f16 does not hold
 *                   becomes NaN
 */
export function lookUpMoved(
  ids: Tensor,
  weight: Tensor,
  y: Tensor,
  nameWords: WordPair,
  steps: readonly DirectionStep[],
  isHalf: boolean,
): void {
  const { rowSize } = weight;
  const fours = rowSize % 4 === 0 ? rowSize / 4 : Math.ceil(rowSize / 4) + 1;
  const add = (gaussians: readonly GaussianStep[]): void => {
    if (gaussians.length > 0)
      run(perturbLookedUpKernel, { ids, y }, { ...noiseOf(weight, { ...alongBoth(gaussians), nameWords }), fours });
  };
  lookUp(ids, weight, y);
  let left = steps.filter(({ coefficient }) => coefficient !== 0);
  while (left.length > 2 || !left.every(isGaussian)) {
    const [step] = left;
    if (isGaussian(step)) add([step]);
    else
      scope(() => {
        const direction = empty(y.backend, y.shape, y.dtype, "looked-up direction");
        lookUp(ids, step.tensor, direction);
        addDirection(y, direction, step.coefficient);
      });
    left = left.slice(1);
  }
  add(left.filter(isGaussian));
  if (isHalf) run(keepHalvesKernel, { x: y }, { rowSize });
}
