// Where the numbers of a parameter come from: a tensor of a file, or none (a bias that the file's model has not). All are read
// piece by piece, so that memory holds one piece at a time, and widened to f32.
import { sizeOf } from "../engine/index.ts";
import type { SafetensorsFile } from "./safetensors.ts";

export type WeightDtype = "f64" | "f32" | "f16" | "bf16";

/** Some elements of a tensor in row order; `start` counts elements. */
export interface Piece {
  readonly start: number;
  readonly data: Float32Array;
}

/** A parameter that can be read. */
export interface WeightSource {
  readonly shape: readonly number[];
  /** How it is stored; what is read is f32 in any case: exact, or rounded to the nearest from f64. */
  readonly dtype: WeightDtype;
  /** @param elements  most elements in a piece; by default what suits the file */
  pieces(elements?: number): AsyncGenerator<Piece>;
}

/** A tensor of floats in a file; null when it is stored as anything else. */
export function storedTensor(file: SafetensorsFile, name: string): WeightSource | null {
  const { dtype, shape } = file.entry(name);
  if (dtype !== "f64" && dtype !== "f32" && dtype !== "f16" && dtype !== "bf16") return null;
  return {
    shape,
    dtype,
    async *pieces(elements) {
      for await (const { start, data } of file.readChunks(name, elements))
        yield { start, data: data instanceof Float32Array ? data : Float32Array.from(data, Number) };
    },
  };
}

const usualPiece = 2 ** 22;

/** A tensor of zeros, as if stored in this dtype. */
export function zeros(shape: readonly number[], dtype: WeightDtype): WeightSource {
  const size = sizeOf(shape);
  return {
    shape,
    dtype,
    async *pieces(elements = usualPiece) {
      for (let start = 0; start < size; start += elements)
        yield { start, data: new Float32Array(Math.min(elements, size - start)) };
    },
  };
}

/** All of a parameter. */
export async function readAll(source: WeightSource): Promise<Float32Array> {
  const all = new Float32Array(sizeOf(source.shape));
  for await (const { start, data } of source.pieces()) all.set(data, start);
  return all;
}

/** Whether two tensors hold the same numbers. NaN is no number's equal, so tensors with NaN differ, as in torch.equal. */
export async function holdSameNumbers(a: WeightSource, b: WeightSource): Promise<boolean> {
  if (String(a.shape) !== String(b.shape)) return false;
  const others = b.pieces(usualPiece);
  for await (const { data } of a.pieces(usualPiece)) {
    const other = (await others.next()).value;
    if (other === undefined || !data.every((value, i) => value === other.data[i])) return false;
  }
  return true;
}
