// A batch may hold the same rows many times: rollouts of one prompt begin alike, and a row's results depend on the tokens up
// to it alone. Its forward pass is then computed once per distinct row, and the tape of the whole batch gets every result by
// gathering rows. The backward pass has all rows as always, so the order of its sums, and every bit, stays the same.
import type { Node, Recording } from "../../autograd.ts";
import { noGradient } from "../../autograd.ts";
import { ShapeError } from "../../errors.ts";
import { onRecordedOp } from "../../op.ts";
import type { Tensor } from "../../tensor.ts";
import { gatherInto } from "./gather.ts";

/** For tensors of N rows: row i is row `rows.get(N)[i]` of the tensor of distinct rows. */
export type RepeatedRows = ReadonlyMap<number, Uint32Array>;

interface Repetition {
  readonly nodes: Iterator<Node>;
  readonly rows: RepeatedRows;
}

let repetition: Repetition | null = null;

/**
 * Runs `body`, which must apply the same ops in the same order as `distinct` did on distinct rows. Ops that are recorded
 * compute nothing: rows of their results, and of the tensors that they save, are gathered from those of `distinct`, which
 * are freed. The first axis of each result is one of rows.
 * @throws ShapeError when an op has another name, or a number of rows that `rows` lacks
 */
export function repeatRows<T>(distinct: Recording<unknown>, rows: RepeatedRows, body: () => T): T {
  const outer = repetition;
  repetition = { nodes: distinct.ops(), rows };
  try {
    return body();
  } finally {
    repetition = outer;
  }
}

onRecordedOp((name, made) => {
  if (repetition === null) return false;
  const { nodes, rows } = repetition;
  const node = nodes.next().value as Node | undefined;
  if (node?.name !== name) throw new ShapeError(`repeatRows: expected ${node?.name ?? "the end"}, got ${name}.`);
  noGradient(() => {
    for (const [key, source] of Object.entries({ ...node.outputs, ...node.saved })) {
      const y: Tensor = made[key];
      const places = rows.get(y.rows);
      if (places === undefined)
        throw new ShapeError(`repeatRows: ${name}: ${key}: unexpected number of rows, ${y.rows}.`);
      gatherInto(source, places, y);
      source.free();
    }
  });
  return true;
});
