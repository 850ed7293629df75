import type { NumberArray } from "../../dtype.ts";
import { f16ToF32, f32ToF16 } from "../../dtype-conversion.ts";
import { attention } from "./attention.cpu.ts";

/** `attention` of q, keys and values rounded to f16; numbers that are not finite there become infinite */
export function attentionOfHalves(
  bindings: Parameters<typeof attention>[0],
  params: Parameters<typeof attention>[1],
): void {
  const { q, keys, values } = bindings;
  attention({ ...bindings, q: halvesOf(q), keys: halvesOf(keys), values: halvesOf(values) }, params);
}

function halvesOf(numbers: NumberArray): Float64Array {
  return Float64Array.from(numbers, (number) => {
    const rounded = f16ToF32(f32ToF16(number));
    return Number.isNaN(rounded) ? Number.POSITIVE_INFINITY : rounded;
  });
}
