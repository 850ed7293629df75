// Where a checkpoint's weights are no numbers: asked only after a measurement has failed, because it reads the whole file.
import { NumericalError } from "../../engine/index.ts";
import { openCheckpoint } from "../../model/index.ts";

const pieceElements = 2 ** 20;

/** The first weight of a checkpoint that is NaN or infinite, in words; null if every weight is finite. */
export async function firstNotFinite(folder: string): Promise<string | null> {
  const checkpoint = await openCheckpoint(folder);
  try {
    for (const [name, shape] of checkpoint.shapes)
      for await (const { start, data } of checkpoint.chunks(name, pieceElements)) {
        const at = data.findIndex((value) => !Number.isFinite(value));
        if (at >= 0) return `${name}[${indicesOf(start + at, shape).join(", ")}] is ${data[at]}`;
      }
    return null;
  } finally {
    await checkpoint.close();
  }
}

/** The indices of element `flat` of a tensor in row-major order. */
function indicesOf(flat: number, shape: readonly number[]): number[] {
  const indices: number[] = [];
  let rest = flat;
  for (const size of [...shape].reverse()) {
    indices.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return indices;
}

/**
 * Runs a measurement around a checkpoint. A NumericalError in it is rethrown with the checkpoint's name, and with the
 * first of its weights that is no number, if there is one.
 */
export async function namingCheckpoint<T>(step: number, folder: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (thrown) {
    if (!(thrown instanceof NumericalError)) throw thrown;
    const weight = await firstNotFinite(folder);
    const found = weight === null ? "Its own weights are all finite" : `Its weight ${weight}`;
    throw new NumericalError(`Checkpoint of step ${step}, ${folder}: ${thrown.message} ${found}.`, { cause: thrown });
  }
}
