// How elementwise kernels split their work. An invocation processes ROUNDS vectors of WIDTH neighbours, one workgroup
// width apart. On software drivers a workgroup costs as much as hundreds of elements, and a load of four neighbours as
// much as a load of one number, so this is six times as fast there as one invocation per element. GPUs need many
// invocations instead.
import type { AdapterStyle, Constants } from "../../kernel.ts";

const invocations = 64;
const rounds: Readonly<Record<AdapterStyle, number>> = { plain: 16, lavapipe: 16, swiftshader: 16, gpu: 1 };
const fours = { Vector: "vec4f", WIDTH: 4 };
const ones = { Vector: "f32", WIDTH: 1 };

/** Vectors per invocation, for kernels that have one width only. */
export function roundsOf(style: AdapterStyle): number {
  return rounds[style];
}

/** For `constants` and `variants` of an elementwise kernel. */
export const elementConstants: Constants = { ...fours, ROUNDS: 16 };
export const elementVariants: readonly Constants[] = [ones, { ROUNDS: 1 }];

/**
 * For `form`: vectors of four if every cell consists of whole ones that begin at multiples of four.
 * @param counts  numbers that must be multiples of four: elements of the cell (or of a row, if rows matter) and binding
 *                offsets
 */
export function elementForm(style: AdapterStyle, ...counts: readonly number[]): Constants {
  return { ...(counts.every((count) => count % 4 === 0) ? fours : ones), ROUNDS: rounds[style] };
}

/**
 * The same for kernels that find the place of a vector by divisions, or in a list: it is found once for RUN neighbours, which
 * lie in one row. On software drivers finding it costs as much as copying two vectors.
 */
export const runConstants: Constants = { ...elementConstants, RUN: 4 };
export const runVariants: readonly Constants[] = [
  { RUN: 1 },
  ...elementVariants.map((variant) => ({ ...variant, RUN: 1 })),
];

/** For `form`. @param row  elements of a row */
export function runForm(style: AdapterStyle, row: number, ...counts: readonly number[]): Constants {
  const form = elementForm(style, row, ...counts);
  const isWhole = (row / Number(form.WIDTH)) % 4 === 0;
  return { ...form, RUN: style !== "gpu" && isWhole ? 4 : 1 };
}

/** For `workgroups`. */
export function elementWorkgroups(count: number, { WIDTH, ROUNDS }: Constants): [number] {
  return [Math.ceil(count / (invocations * Number(WIDTH) * Number(ROUNDS)))];
}
