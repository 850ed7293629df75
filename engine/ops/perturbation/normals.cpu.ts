import type { NumberArray } from "../../dtype.ts";
import { directionNormals } from "../../random.ts";

export interface Stream {
  key0: number;
  key1: number;
  name0: number;
  name1: number;
}

export function normals(
  { y }: { y: NumberArray },
  { rows, rowsStart, rowSize, key0, key1, name0, name1 }: Stream & { rows: number; rowsStart: number; rowSize: number },
): void {
  y.set(directionNormals([key0, key1], [name0, name1], rows * rowSize, rowsStart * rowSize));
}
