// Sizes around what one workgroup of an elementwise kernel takes, in either of its forms, on software drivers and on GPUs:
// read from the code that shares out the work, so that they stay at the edges when it changes.
import type { AdapterStyle } from "../../../../engine/kernel.ts";
import { elementForm, elementWorkgroups } from "../../../../engine/ops/elementwise/work-split.ts";

const styles: readonly AdapterStyle[] = ["lavapipe", "gpu"];

/** [rows, width]: rows of one number as many as fit, one fewer and one more; rows of four as many as fit and one more. */
export const elementSizes: readonly (readonly [rows: number, width: number])[] = styles.flatMap((style) => {
  const most = (width: number): number => {
    let rows = 0;
    while (elementWorkgroups((rows + 1) * width, elementForm(style, width))[0] === 1) rows++;
    return rows;
  };
  const [ones, fours] = [most(1), most(4)];
  return [
    [ones - 1, 1],
    [ones, 1],
    [ones + 1, 1],
    [fours, 4],
    [fours + 1, 4],
  ] as const;
});

/** A case for each of these sizes. */
export function elementCases<Case>(make: (rows: number, width: number) => Case): Record<string, Case> {
  return Object.fromEntries(
    elementSizes.map(([rows, width]) => [`${rows} rows of ${width}, about a workgroup`, make(rows, width)]),
  );
}
