// Packing the copy of a weight that the forward product reads, at the shapes of Qwen2.5-0.5B's MLP and of a chunk of
// its vocabulary.
import { packPanels, panelShape } from "../../../../engine/ops/matmul/matmul.ts";
import { empty, fromArray } from "../../../../engine/tensor.ts";
import type { BenchCase } from "../../../harness.ts";

const shapes: readonly (readonly [name: string, outputs: number, inputs: number])[] = [
  ["0.5B gate, up", 4864, 896],
  ["0.5B 16,384 tokens of the head", 16384, 896],
  ["tiny gate, up", 192, 64],
];

export const cases: readonly BenchCase[] = shapes.map(([name, O, C]) => ({
  name: `pack ${name} ${O}×${C}`,
  flops: 0,
  bytes: 8 * O * C,
  setUp(backend) {
    const values = Float32Array.from({ length: O * C }, (_, i) => Math.imul(i, 2654435761) >>> 8);
    const weight = fromArray(backend, values, [O, C]);
    const panels = empty(backend, panelShape(O, C));
    return {
      run: () => packPanels(weight, panels),
      async check() {
        const found = await panels.read();
        for (const [i, value] of found.entries()) {
          const [panel, c, j] = [Math.floor(i / (8 * C)), Math.floor(i / 8) % C, i % 8];
          if (value !== values[(8 * panel + j) * C + c]) throw new Error(`panel ${panel}, input ${c}, output ${j}`);
        }
      },
    };
  },
}));
