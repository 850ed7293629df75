// How elementwise kernels share out their work. An invocation takes ROUNDS vectors of WIDTH neighbours, a workgroup apart: on
// software drivers a workgroup costs as much as hundreds of elements, and a load of four neighbours as much as one of a
// single number, so this is six times as fast there as an invocation for each element. GPUs want the invocations.
import type { AdapterStyle, Constants } from "../../kernel.ts";

const invocations = 64;
const rounds: Readonly<Record<AdapterStyle, number>> = { plain: 16, lavapipe: 16, swiftshader: 16, gpu: 1 };
const fours = { Vector: "vec4f", WIDTH: 4 };
const ones = { Vector: "f32", WIDTH: 1 };

/** For `constants` and `variants` of an elementwise kernel. */
export const elementConstants: Constants = { ...fours, ROUNDS: 16 };
export const elementVariants: readonly Constants[] = [ones, { ROUNDS: 1 }];

/**
 * For `form`: vectors of four where the cell consists of whole ones, each at a place that divides by four.
 * @param counts  what must divide by four: elements of the cell (of a row, where rows matter), and where bindings begin
 */
export function elementForm(style: AdapterStyle, ...counts: readonly number[]): Constants {
  return { ...(counts.every((count) => count % 4 === 0) ? fours : ones), ROUNDS: rounds[style] };
}

/** For `workgroups`. */
export function elementWorkgroups(count: number, { WIDTH, ROUNDS }: Constants): [number] {
  return [Math.ceil(count / (invocations * Number(WIDTH) * Number(ROUNDS)))];
}
