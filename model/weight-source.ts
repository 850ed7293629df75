// The source of a parameter's values: a tensor in a file, or zeros (a bias that the file's model does not have). Values
// are read
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
  /** The dtype in the file. Values are always read as f32: exact, or rounded to the nearest from f64. */
  readonly dtype: WeightDtype;
  /** @param elements  maximum elements per piece; the default suits the file */
  pieces(elements?: number): AsyncGenerator<Piece>;
}

/** A tensor of floats in a file; null if the tensor holds anything else. */
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

/** A tensor of zeros that counts as stored in this dtype. */
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

/** The whole parameter in one array. */
export async function readAll(source: WeightSource): Promise<Float32Array> {
  const all = new Float32Array(sizeOf(source.shape));
  for await (const { start, data } of source.pieces()) all.set(data, start);
  return all;
}

/** Whether two tensors hold the same numbers. NaN equals nothing, so tensors with NaN differ, as in torch.equal. */
export async function holdSameNumbers(a: WeightSource, b: WeightSource): Promise<boolean> {
  if (String(a.shape) !== String(b.shape)) return false;
  const others = b.pieces(usualPiece);
  for await (const { data } of a.pieces(usualPiece)) {
    const other = (await others.next()).value;
    if (other === undefined || !data.every((value, i) => value === other.data[i])) return false;
  }
  return true;
}
