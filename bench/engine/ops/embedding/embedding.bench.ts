// Embedding lookup and its gradient, 896 wide, for a table of 32,768 rows (the table of Qwen2.5-0.5B has 151,936 rows
// and needs five segments), and for the tiny model. The gradient of the first micro-batch sets the whole table to zero
// first. Ids repeat.
import type { Backend } from "../../../../engine/backends/backend.ts";
import { embeddingOp } from "../../../../engine/ops/embedding/embedding.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import type { BenchCase, BenchWork } from "../../../harness.ts";
import { backwardWork, expectSome, forwardWork, operand, unit } from "../../../operands.ts";

/** Distinct ids in a batch: real text repeats tokens. */
const distinct = 100;

function setUp(backend: Backend, T: number, V: number, C: number, isBackward: boolean): BenchWork {
  const host = Uint32Array.from({ length: T }, (_, t) =>
    Math.floor(unit(Math.floor(unit(t, 1) * distinct), 2) * (V - 1)),
  );
  // First and last row are always compared: the last token looks up the last row.
  host[T - 1] = V - 1;
  const table = operand(backend, [V, C], 3);
  const ids = fromArray(backend, host, [T], "u32");
  const call = () => embeddingOp({ ids, table: table.tensor }, { host }).y;
  if (!isBackward)
    return forwardWork(call, (y) => expectSome("y", y, (i) => table.at(host[Math.floor(i / C)] * C + (i % C)), 0));
  const dy = operand(backend, [T, C], 4);
  return backwardWork({ table: table.tensor }, call, dy.tensor, async ({ table: dTable }) => {
    const expected = (i: number): number => {
      const [row, c] = [Math.floor(i / C), i % C];
      let sum = 0;
      for (const [t, id] of host.entries()) if (id === row) sum += dy.at(t * C + c);
      return sum;
    };
    await expectSome("dTable", dTable, expected);
    // Most rows get no gradient, so the rows of the batch are compared separately.
    for (const row of new Set(host))
      await expectSome(`dTable[${row}]`, dTable.sliceRows(row, 1), (c) => expected(row * C + c), 2e-5, 8);
  });
}

const sizes = [
  { name: "decode, 32,768 rows", T: 16, V: 32_768, C: 896, training: false },
  { name: "32,768 rows", T: 256, V: 32_768, C: 896, training: true },
  { name: "32,768 rows", T: 1024, V: 32_768, C: 896, training: true },
  { name: "tiny", T: 448, V: 371, C: 64, training: true },
];

export const cases: readonly BenchCase[] = sizes.flatMap(({ name, T, V, C, training }) =>
  (training ? [false, true] : [false]).map((isBackward) => ({
    name: `embedding ${isBackward ? "backward" : "forward"} ${name}, ${T} tokens`,
    flops: isBackward ? T * C : 0,
    bytes: 4 * (isBackward ? V * C + 2 * T * C : 2 * T * C),
    heavy: T === 1024,
    setUp: (backend: Backend) => setUp(backend, T, V, C, isBackward),
  })),
);
