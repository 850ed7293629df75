// What is read from a checkpoint's folder of the noise floor: draws.jsonl, one line per draw of the checkpoint's own rollouts.
import { existsSync } from "node:fs";
import { z } from "zod";
import { countRecords, type OnDamage, readJournal } from "../../engine/host/index.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import type { RecordJournal } from "./arrived-records.ts";
import { byRollout } from "./cells.ts";
import { noiseFloorFolder, noisePaths } from "./layout.ts";

export const noiseDraw = z.object({
  /** The number of its noise seed, from 1; the maps have noise 0. */
  draw: z.int(),
  reward: byRollout,
  /** 1 for a rollout that the environment did not score, else 0; absent if it scored all. */
  failed: byRollout.optional(),
});
/** The checkpoint's rollouts with another noise seed. */
export type NoiseDraw = z.infer<typeof noiseDraw>;

/** Whether a draw has all rollouts that are asked for now. */
export const isWholeDraw = ({ reward }: NoiseDraw, { rollouts }: Pick<Landscape, "rollouts">): boolean =>
  reward.length === rollouts.prompts && reward.every(({ length }) => length === rollouts.rollouts);

type Landscape = Pick<StudySettings["landscape"], "noiseFloor" | "rollouts">;

/** The places of the draws, which are no points: j is the number of the noise seed. */
export const noisePlaces = ({ noiseFloor }: Pick<Landscape, "noiseFloor">): PointPlace[] =>
  Array.from({ length: noiseFloor }, (_, k) => ({ i: -1, j: k + 1, alpha: k + 1, beta: 0 }));

export function noiseJournal(folder: string, step: number, landscape: Landscape): RecordJournal<NoiseDraw> {
  const { draws: path, earlier } = noisePaths(noiseFloorFolder(folder, step));
  return {
    ...{ path, earlier, schema: noiseDraw, order: noisePlaces(landscape) },
    keyOf: ({ draw }) => String(draw),
    keyOfPlace: ({ j }) => String(j),
    at: (record) => record,
    isWhole: (record) => isWholeDraw(record, landscape),
  };
}

export function readNoiseDraws(folder: string, step: number, onDamage: OnDamage): readonly NoiseDraw[] {
  const { draws } = noisePaths(noiseFloorFolder(folder, step));
  return existsSync(draws) ? readJournal(draws, noiseDraw, onDamage).records : [];
}

/** Draws on disk, judged by checksums alone, and whether neither finished rollouts wait for the rest of their draw nor smaller draws. */
export function countNoiseDraws(folder: string, step: number): { count: number; isSettled: boolean } {
  const { draws, underWay, earlier } = noisePaths(noiseFloorFolder(folder, step));
  return {
    count: existsSync(draws) ? countRecords(draws) : 0,
    isSettled: !existsSync(underWay) && !existsSync(earlier),
  };
}
