// Element types of tensors. f64 exists on the plain-TypeScript backend only, for gradient checks and other references.

export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "f64";

/** What a plain kernel gets: indexable numbers of known length. */
export type NumberArray = Float64Array | Float32Array | Int32Array | Uint32Array;

export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, f64: 8 };

export function isFloat(dtype: DType): boolean {
  return dtype !== "i32" && dtype !== "u32";
}

/** A zero-filled array of `length` elements. There is no array type for f16: its numbers are held as f32. */
export function newArray(dtype: DType, length: number): NumberArray {
  switch (dtype) {
    case "f64":
      return new Float64Array(length);
    case "f32":
    case "f16":
      return new Float32Array(length);
    case "i32":
      return new Int32Array(length);
    case "u32":
      return new Uint32Array(length);
    case "bf16":
      throw new Error(`newArray: ${dtype} is a storage type; plain kernels see it as f32`);
    default:
      return dtype satisfies never;
  }
}

/** `values` as an array of `dtype`, converted if it is not one already. */
export function toArray(dtype: DType, values: ArrayLike<number>): NumberArray {
  const array = newArray(dtype, 0);
  if (values.constructor === array.constructor) return values as NumberArray;
  const converted = newArray(dtype, values.length);
  converted.set(values);
  return converted;
}
