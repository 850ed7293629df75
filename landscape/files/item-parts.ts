// What workers of a queue measure around a checkpoint besides points: in each of these parts no piece (item) needs another one.
import { z } from "zod";
import { gridCells, type PointPlace } from "../grid.ts";
import { signsOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { klFromRecord } from "./kl-from-files.ts";
import { noiseDraw, noisePlaces } from "./noise-files.ts";
import { pairRecord, pairsFrom } from "./pair-files.ts";
import { scaleRecord } from "./ray-files.ts";

/** What is measured of an item. */
export const itemSchema = z.discriminatedUnion("kind", [
  /** ‖δ‖ of all rays. */
  z.strictObject({ kind: z.literal("lengths"), lengths: z.array(z.number()) }),
  /** The scales of one half of a ray, for all KLs: their searches share passes. */
  z.strictObject({ kind: z.literal("scales"), scales: z.array(scaleRecord) }),
  z.strictObject({ kind: z.literal("draw"), draw: noiseDraw }),
  z.strictObject({ kind: z.literal("pair"), pair: pairRecord }),
  z.strictObject({ kind: z.literal("kl-from"), cell: klFromRecord }),
]);
export type Item = z.infer<typeof itemSchema>;

export interface ItemPart {
  readonly kind: Item["kind"];
  /** ray-lengths, scales, noise-floor, pairs, slice-0-kl-from-20. */
  readonly name: string;
  /** The places of its items. Of a pair j is the other checkpoint's step, of a draw the number of its noise seed. */
  readonly items: readonly PointPlace[];
  /** Whether a worker measures neighbours of them together. */
  readonly isTogether: boolean;
  /** The map and the other checkpoint of "kl-from"; null for the others. */
  readonly map: { readonly slice: number; readonly from: number } | null;
}

/** The parts of a checkpoint, first those that others wait for. */
export function itemParts({ landscape }: StudySettings, step: number): ItemPart[] {
  const { rays, slices, steps, klFrom } = landscape;
  const one = { i: 0, j: 0, alpha: 0, beta: 0 };
  const part = (kind: Item["kind"], name: string, items: readonly PointPlace[]): ItemPart[] =>
    items.length === 0 ? [] : [{ kind, name, items, isTogether: false, map: null }];
  const pairs = landscape.pairs ? pairsFrom(step, steps) : [];
  return [
    ...(rays.count > 0 && rays.kl.length > 0 ? part("scales", "scales", halvesOf(landscape)) : []),
    ...(rays.count > 0 ? part("lengths", "ray-lengths", [one]) : []),
    ...part(
      "pair",
      "pairs",
      pairs.map((to) => ({ i: 0, j: to, alpha: to, beta: 0 })),
    ),
    ...part("draw", "noise-floor", noisePlaces(landscape)),
    ...klFrom
      .filter((from) => from !== step)
      .flatMap((from) =>
        Array.from({ length: slices }, (_, slice) => ({
          ...{ kind: "kl-from" as const, name: `slice-${slice}-kl-from-${from}`, items: gridCells(landscape) },
          ...{ isTogether: true, map: { slice, from } },
        })),
      ),
  ];
}

/** The halves of all rays: j is 1 for the opposite one. */
const halvesOf = ({ rays }: StudySettings["landscape"]): PointPlace[] =>
  Array.from({ length: rays.count }, (_, ray) =>
    signsOf(rays).map((sign) => ({ i: ray, j: sign < 0 ? 1 : 0, alpha: sign, beta: 0 })),
  ).flat();

/** The scales that belong to a half of a ray, in the order of search. */
export const scalesOfHalf = (
  { i, alpha }: PointPlace,
  { rays }: StudySettings["landscape"],
): { ray: number; sign: 1 | -1; target: number }[] =>
  rays.kl.map((target) => ({ ray: i, sign: alpha < 0 ? (-1 as const) : (1 as const), target }));
