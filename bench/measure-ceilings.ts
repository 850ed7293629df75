// Runs the cases that set the ceilings: a copy of 64 MiB, which is larger than any cache, and every product of a linear
// layer at shapes of both models.
import type { Backend } from "../engine/backends/backend.ts";
import { defineKernel } from "../engine/kernel.ts";
import {
  elementConstants,
  elementForm,
  elementVariants,
  elementWorkgroups,
} from "../engine/ops/elementwise/work-split.ts";
import { run } from "../engine/run.ts";
import { empty } from "../engine/tensor.ts";
import { type Ceilings, ceilingsOf } from "./ceilings.ts";
import { productCase, products } from "./engine/ops/matmul/linear.bench.ts";
import { type BenchCase, type BenchResult, measure } from "./harness.ts";
import { expectSome, operand } from "./operands.ts";

const copiedBytes = 64 * 2 ** 20;

const copyKernel = defineKernel({
  name: "copy",
  axes: { rows: "map" },
  bindings: { x: { access: "read", axis: "rows" }, y: { access: "write", axis: "rows" } },
  cpu: ({ x, y }) => y.set(x),
  wgsl: new URL("./copy.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  constants: elementConstants,
  variants: elementVariants,
  form: (p, style) => elementForm(style, p.rows, p.xBase, p.yBase),
  workgroups: ({ rows }, constants) => elementWorkgroups(rows, constants),
});

/** y = x. */
export function copyCase(bytes = copiedBytes): BenchCase {
  const shape = [bytes / 4];
  return {
    name: `copy ${bytes / 2 ** 20} MiB`,
    flops: 0,
    bytes: 2 * bytes,
    setUp: (backend) => {
      const x = operand(backend, shape, 1);
      const y = empty(backend, shape);
      return {
        run: () => run(copyKernel, { x: x.tensor, y }, {}),
        check: () => expectSome("copy", y, x.at, 0),
      };
    },
  };
}

/** Rows, inputs, outputs: the gate of the tiny model in training, and both MLP shapes of Qwen2.5-0.5B. */
const sizes = [
  [448, 64, 192],
  [256, 896, 4864],
  [256, 4864, 896],
] as const;

/**
 * @param report  called with each result as soon as it is measured
 * @throws the error of a case's check
 */
export async function measureCeilings(backend: Backend, report: (result: BenchResult) => void): Promise<Ceilings> {
  const timed = async (one: BenchCase): Promise<BenchResult> => {
    const result = await measure(backend, one, { timeMs: 500 });
    report(result);
    return result;
  };
  const copy = await timed(copyCase());
  const results: BenchResult[] = [];
  for (const size of sizes)
    for (const product of products) results.push(await timed(productCase(product, "ceiling", size)));
  return ceilingsOf([copy], results);
}
