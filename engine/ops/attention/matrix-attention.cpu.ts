import type { NumberArray } from "../../dtype.ts";
import { f16ToF32, f32ToF16 } from "../../dtype-conversion.ts";
import { attention, attentionBackwardKey, attentionBackwardQuery, attentionStatistics } from "./attention.cpu.ts";

/** `attention` of q, keys and values rounded to f16; numbers that are not finite there become infinite */
export function attentionOfHalves(
  bindings: Parameters<typeof attention>[0],
  params: Parameters<typeof attention>[1],
): void {
  const { q, keys, values } = bindings;
  attention({ ...bindings, q: halvesOf(q), keys: halvesOf(keys), values: halvesOf(values) }, params);
}

type Operands = Record<"q" | "keys" | "values" | "dy", NumberArray>;

function roundedOperands({ q, keys, values, dy }: Operands): Operands {
  return { q: halvesOf(q), keys: halvesOf(keys), values: halvesOf(values), dy: halvesOf(dy) };
}

/** `attentionBackwardQuery` of q, keys, values and dy rounded to f16 */
export function attentionBackwardQueryOfHalves(
  bindings: Parameters<typeof attentionBackwardQuery>[0],
  params: Parameters<typeof attentionBackwardQuery>[1],
): void {
  attentionBackwardQuery({ ...bindings, ...roundedOperands(bindings) }, params);
}

/** `attentionBackwardKey` of q, keys, values and dy rounded to f16 */
export function attentionBackwardKeyOfHalves(
  bindings: Parameters<typeof attentionBackwardKey>[0],
  params: Parameters<typeof attentionBackwardKey>[1],
): void {
  attentionBackwardKey({ ...bindings, ...roundedOperands(bindings) }, params);
}

/** `attentionStatistics` of dy rounded to f16 */
export function attentionStatisticsOfHalves(
  bindings: Parameters<typeof attentionStatistics>[0],
  params: Parameters<typeof attentionStatistics>[1],
): void {
  attentionStatistics({ ...bindings, dy: halvesOf(bindings.dy) }, params);
}

function halvesOf(numbers: NumberArray): Float64Array {
  return Float64Array.from(numbers, (number) => {
    const rounded = f16ToF32(f32ToF16(number));
    return Number.isNaN(rounded) ? Number.POSITIVE_INFINITY : rounded;
  });
}
