// The parts of a checkpoint that are handed out, with what has arrived of each. Points at fixed KL and on fresh prompts are known only
// once other parts are whole.
import { existsSync, rmSync } from "node:fs";
import { explained, type OnDamage } from "../../engine/host/index.ts";
import { ArrivedCells } from "../files/arrived-cells.ts";
import { type ArrivedItems, openItems } from "../files/arrived-items.ts";
import type { CellRecord } from "../files/cells.ts";
import { type ItemPart, itemParts } from "../files/item-parts.ts";
import {
  earlierPairsFolder,
  fixedKlFolder,
  freshFolder,
  raysFolder,
  type SlicePlace,
  slicePaths,
} from "../files/layout.ts";
import { countNoiseDraws } from "../files/noise-files.ts";
import { missingPairs } from "../files/pair-files.ts";
import { fixedKlPart, freshPart, type PointPart, partFolder, partText, pointParts } from "../files/point-parts.ts";
import { countPoints, readRayLengths, readScales, readWorstFacts, type WorstFacts } from "../files/ray-files.ts";
import { fixedKlPoints, isInOrder, wantedScales } from "../files/ray-points.ts";
import { readEarlier } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import { dropOtherPrompts, freshPoints, freshSettings } from "../measure/fresh-prompts.ts";
import type { KlFromPart } from "../measure/kl-from.ts";
import { sayScaleGaps } from "../measure/rays.ts";
import type { SweepJob } from "../measure/sweep-checkpoints.ts";
import type { StudySettings } from "../settings.ts";
import { shapeProblem } from "./result-shapes.ts";

/** A worst-case ray turns out to have no direction, and so no points. */
export function discardPoints({ arrived }: HandedPoints, own: string): void {
  arrived.close();
  const { cells, conversations } = slicePaths(own);
  for (const path of [cells, conversations]) explained(path, () => rmSync(path, { force: true }));
}

/** Points of one part. */
export interface HandedPoints {
  readonly name: string;
  readonly points: PointPart;
  readonly items: null;
  readonly neighbours: readonly PointPlace[];
  readonly isTogether: true;
  readonly arrived: ArrivedCells;
  /** How the direction of a worst-case ray was made; null for the others, and as long as it is not known. */
  worst: WorstFacts | null;
  /** What a point's record must have the shape of. */
  readonly shape: Pick<StudySettings["landscape"], "reference" | "rollouts">;
}

/** Items of one part. */
export interface HandedItems {
  readonly name: string;
  readonly points: null;
  readonly items: ItemPart;
  readonly neighbours: readonly PointPlace[];
  readonly isTogether: boolean;
  readonly arrived: ArrivedItems;
}

export type HandedPart = HandedPoints | HandedItems;

/** Whether it is known that a part has no points: a worst-case ray without a direction. */
export const isGap = (part: HandedPart): boolean => part.points !== null && part.worst?.problem != null;

/** What is left of all maps, and of KL from other checkpoints. */
export interface LeftMaps {
  readonly slices: readonly SlicePlace[];
  readonly klFrom: readonly KlFromPart[];
}

export class HandedParts {
  readonly #job: SweepJob;
  readonly #step: number;
  readonly #parts = new Map<string, HandedPart>();
  /** Halves of rays on which no scale was found: nothing is left to measure of these. */
  #scaleGaps = 0;
  #awaited: ReadonlySet<"fixed-kl" | "fresh">;

  constructor(job: SweepJob, step: number, left: LeftMaps) {
    this.#job = job;
    this.#step = step;
    const { folder, settings, progress } = job;
    const say: OnDamage = (line) => progress.line(line);
    const { rays } = settings.landscape;
    for (const part of itemParts(settings, step)) {
      if (!isItemsLeft(folder, settings, step, part, left)) continue;
      const arrived = openItems(folder, step, part, settings, say);
      this.#sayPartial(part.name, arrived.partial, "items");
      const { name, items, isTogether } = part;
      this.#parts.set(name, { name, points: null, items: part, neighbours: items, isTogether, arrived });
    }
    for (const part of pointParts(settings, step)) if (isPointsLeft(folder, step, part, left)) this.#open(part);
    this.#awaited = new Set([
      ...(rays.count > 0 && rays.kl.length > 0 ? (["fixed-kl"] as const) : []),
      ...(rays.count > 0 && rays.freshPrompts > 0 ? (["fresh"] as const) : []),
    ]);
    this.later();
  }

  get all(): readonly HandedPart[] {
    return [...this.#parts.values()];
  }

  find(name: string): HandedPart | undefined {
    return this.#parts.get(name);
  }

  /** Whether a part was whole before anything was handed out. */
  get hasOthers(): boolean {
    const { settings } = this.#job;
    return pointParts(settings, this.#step).some(({ name }) => !this.#parts.has(name));
  }

  /** How many points and items are there. */
  get size(): number {
    return this.all.reduce((sum, part) => sum + sizeOf(part), this.#scaleGaps);
  }

  /** How many there are in all, as far as it is known. */
  get total(): number {
    const scales = this.#awaited.has("fixed-kl") ? wantedScales(this.#job.settings.landscape).length : 0;
    return this.all.reduce((sum, { neighbours }) => sum + neighbours.length, scales + this.#scaleGaps);
  }

  /** Parts that have become known since it was asked last. */
  later(): HandedPart[] {
    const { folder, settings, environment, progress } = this.#job;
    const { landscape } = settings;
    const say: OnDamage = (line) => progress.line(line);
    const left = new Set(this.#awaited);
    const found: HandedPart[] = [];
    if (left.has("fixed-kl") && this.#isWhole("scales")) {
      left.delete("fixed-kl");
      const own = fixedKlFolder(folder, this.#step);
      const scales = readScales(own, say);
      const part = fixedKlPart(fixedKlPoints(landscape, scales));
      // Without a single scale the files of points are there too, and empty.
      if (isLeftIn(own, part.points.length) || !existsSync(slicePaths(own).cells)) {
        sayScaleGaps(this.#step, scales, say);
        this.#scaleGaps = wantedScales(landscape).length - part.points.length;
        found.push(this.#open(part));
      }
    }
    if (left.has("fresh") && this.#isWhole("rays")) {
      left.delete("fresh");
      const own = freshFolder(folder, this.#step);
      const part = freshPart(freshPoints(folder, this.#step, landscape) ?? []);
      if (isLeftIn(own, part.points.length)) {
        dropOtherPrompts({ environment, settings, say }, this.#step, own);
        found.push(this.#open(part, freshSettings(settings).landscape));
      }
    }
    this.#awaited = left;
    return found;
  }

  close(): void {
    // The files of a gap are closed and gone.
    for (const part of this.all) if (!isGap(part)) part.arrived.close();
  }

  #isWhole(name: string): boolean {
    const part = this.#parts.get(name);
    return part === undefined || sizeOf(part) === part.neighbours.length;
  }

  #open(part: PointPart, shape: HandedPoints["shape"] = this.#job.settings.landscape): HandedPoints {
    const { folder, progress } = this.#job;
    const say: OnDamage = (line) => progress.line(line);
    const own = partFolder(folder, this.#step, part);
    const isWhole = (record: CellRecord): boolean => shapeProblem(record, shape) === null;
    if (existsSync(slicePaths(own).underWay))
      say(
        `Step ${this.#step}, ${partText(part.name)}: finished rollouts of points under way are in ${slicePaths(own).underWay}. Workers do not have ` +
          "them: without --queue the same command would use them.",
      );
    const earlier = [...readEarlier(own, say, part.placeOf).values()];
    this.#sayPartial(part.name, earlier.filter(({ record }) => !isWhole(record)).length, "cells");
    const arrived = new ArrivedCells(own, part.points, isWhole, say, part.placeOf);
    arrived.settle();
    const { name, neighbours } = part;
    const worst = part.worst === null || arrived.size === 0 ? null : readWorstFacts(own);
    const handed: HandedPoints = {
      name,
      points: part,
      items: null,
      neighbours,
      isTogether: true,
      arrived,
      worst,
      shape,
    };
    this.#parts.set(name, handed);
    return handed;
  }

  #sayPartial(name: string, count: number, what: string): void {
    if (count > 0)
      this.#job.progress.line(
        `Step ${this.#step}, ${partText(name)}: ${count} ${what} of the smaller study are measured again as a whole.`,
      );
  }
}

const sizeOf = (part: HandedPart): number => (isGap(part) ? part.neighbours.length : part.arrived.size);

function isLeftIn(own: string, points: number): boolean {
  const { count, isSettled } = countPoints(own);
  return !isSettled || count < points;
}

function isPointsLeft(folder: string, step: number, part: PointPart, left: LeftMaps): boolean {
  if (part.slice !== null) return left.slices.some((one) => one.step === step && one.slice === part.slice);
  const own = partFolder(folder, step, part);
  if (part.worst !== null && readWorstFacts(own)?.problem != null) return false;
  return isLeftIn(own, part.points.length);
}

function isItemsLeft(
  folder: string,
  settings: StudySettings,
  step: number,
  { kind, map }: ItemPart,
  { klFrom }: LeftMaps,
): boolean {
  const { landscape } = settings;
  switch (kind) {
    case "lengths":
      return readRayLengths(raysFolder(folder, step))?.length !== landscape.rays.count;
    case "scales":
      return !isInOrder(
        readScales(fixedKlFolder(folder, step), () => {}),
        wantedScales(landscape),
      );
    case "pair":
      return missingPairs(folder, step, landscape.steps).length > 0 || existsSync(earlierPairsFolder(folder, step));
    case "draw": {
      const { count, isSettled } = countNoiseDraws(folder, step);
      return !isSettled || count < landscape.noiseFloor;
    }
    case "kl-from":
      return klFrom.some((one) => one.step === step && one.slice === map?.slice && one.from === map.from);
    default:
      return kind satisfies never;
  }
}
