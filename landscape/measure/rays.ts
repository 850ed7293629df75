// Rays: random directions through a checkpoint, each an independent unit. Every ray has a Gaussian of its own, which is drawn
// again from its counters whenever it is needed, so any number of rays takes no memory.
import { ensureFolder, openJournalOf, writeJournal } from "../../engine/host/index.ts";
import { type DirectionStep, philoxKey } from "../../engine/index.ts";
import { settleOrder } from "../files/arrived-cells.ts";
import { fixedKlFolder, lineFolder, rayPaths, raysFolder } from "../files/layout.ts";
import { type ScaleRecord, scaleRecord, writeRayLengths } from "../files/ray-files.ts";
import { fixedKlPoints, isInOrder, linePoints, rayPoints, scaleKey, wantedScales } from "../files/ray-points.ts";
import { rayCoordinatesOf } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import { type Direction, freeDirection, stepOf, sumOf } from "./directions/direction.ts";
import { groupsOf, movedNames } from "./directions/groups.ts";
import { DirectionSources } from "./directions/kinds.ts";
import { type ScaledDirection, scaleDirection } from "./directions/norm-rules.ts";
import type { PointDistance } from "./drafts.ts";
import { findScale, KL_TOLERANCE, MOST_PASSES } from "./fixed-kl.ts";
import { type KlAt, withKlAt } from "./kl-at.ts";
import { measurePoints, type PointSet } from "./measure-points.ts";
import type { PartJob } from "./part-job.ts";
import type { Reference } from "./reference.ts";
import type { SweepContext } from "./sweep-context.ts";

/** Rays by number, made when they are first asked for. */
export class Rays {
  readonly #context: SweepContext;
  readonly #names: readonly string[];
  readonly #rays = new Map<number, ScaledDirection>();

  constructor(context: SweepContext) {
    this.#context = context;
    this.#names = movedNames(groupsOf(context.model.config), context.settings.landscape.directions);
  }

  /** Scales the Gaussians of these rays, which reads every moved weight once per ray. */
  async prepare(rays: Iterable<number>): Promise<void> {
    const { model, settings, place, signal } = this.#context;
    const { seed, directions } = settings.landscape;
    for (const ray of rays) {
      if (this.#rays.has(ray)) continue;
      const step = directions.noise === "shared" ? "" : `|step-${place.step}`;
      const key = philoxKey(`direction|${seed}|ray-${ray}${step}`);
      const context = { arena: model.weights, names: this.#names, signal, label: `ray ${ray}` };
      this.#rays.set(ray, await scaleDirection({ key }, settings.landscape.rays.norm, context));
    }
  }

  /** ‖δ‖ over the moved parameters. */
  lengthOf(ray: number): number {
    return Math.sqrt(sumOf(this.#found(ray).squares.values()));
  }

  /** Those of all rays. */
  async lengths(): Promise<number[]> {
    const all = numbersTo(this.#context.settings.landscape.rays.count);
    await this.prepare(all);
    return all.map((ray) => this.lengthOf(ray));
  }

  stepsTo(ray: number, scale: number): (name: string) => DirectionStep[] {
    const { direction } = this.#found(ray);
    return (name) => stepOf(direction.get(name), scale);
  }

  #found(ray: number): ScaledDirection {
    const found = this.#rays.get(ray);
    if (found === undefined) throw new Error(`Rays: ray ${ray} was not prepared`);
    return found;
  }
}

const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, k) => k);
/**
 * The first scale tried on every half of a ray, in units of the norm. Neither it nor a search depends on the radii, on other KLs
 * or on other rays, so a scale that was found stays when these become more.
 */
const FIRST_SCALE = 0.05;
const atCheckpoint = (): ((name: string) => DirectionStep[]) => () => [];

/** Measures the missing points of the rays at their radii. @returns points that `phase` has counted afterwards */
export async function measureRays({ context, folder, reference, phase, before }: PartJob): Promise<number> {
  const own = raysFolder(folder, context.place.step);
  const { shard, landscape } = context.settings;
  const points = rayPoints(landscape, shard);
  // Workers of a queue may have left points in another order.
  await settleOrder(own, points, context.say, rayCoordinatesOf);
  const { seed, rays } = landscape;
  return measurePoints({
    ...{ context, folder: own, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} points on rays around step ${context.place.step}`,
    prepare: async () => {
      const made = new Rays(context);
      // The lengths of all rays, so that every shard has the same file.
      writeRayLengths(own, seed, rays.norm, await made.lengths());
      return pointsAlong(points, (ray, scale) => made.stepsTo(ray, scale));
    },
  });
}

/** Rays whose points begin together, radius by radius: then a point's inner neighbour has mostly ended, and gives its drafts. */
const RAYS_TOGETHER = 8;

export function pointsAlong(
  points: readonly PointPlace[],
  stepsTo: (ray: number, scale: number) => (name: string) => DirectionStep[],
): PointSet<PointPlace> {
  return {
    points,
    stepsTo: ({ i, alpha }: PointPlace) => (i < 0 ? atCheckpoint() : stepsTo(i, alpha)),
    distance: distanceAlong(points),
    inBeginOrder: (all) =>
      [...all].sort((one, other) => groupOf(one) - groupOf(other) || one.j - other.j || one.i - other.i),
    free: () => {},
  };
}

const groupOf = ({ i }: PointPlace): number => Math.floor(i / RAYS_TOGETHER);

/**
 * Points of different rays count as nearer than they are in weight space, where random rays are nearly at right angles. What is
 * said first to change as weights move away is much the same along all rays, so an equally far point of another ray agrees more
 * often than one close to the checkpoint does.
 */
const LIKENESS = 0.8;

/** The squared distance in units of the norm, if rays had angles with cosine LIKENESS between them, and the halves of a ray 180°. */
function distanceAlong(points: readonly PointPlace[]): PointDistance {
  const scales = new Map(points.map(({ i, j, alpha }) => [`${i},${j}`, alpha]));
  const scaleOf = ({ i, j }: { readonly i: number; readonly j: number }): number => scales.get(`${i},${j}`) ?? 0;
  return (one, other) => {
    const [from, to] = [scaleOf(one), scaleOf(other)];
    return one.i === other.i ? (from - to) ** 2 : from ** 2 + to ** 2 - 2 * LIKENESS * Math.abs(from * to);
  };
}

/**
 * Scales each half of each ray to the KLs asked for, and measures the points there. Every scale found is on disk before the
 * next is searched.
 * @returns points that `phase` has counted afterwards
 */
export async function measureFixedKl({ context, folder, reference, phase, before }: PartJob): Promise<number> {
  const { place, settings, say } = context;
  const own = fixedKlFolder(folder, place.step);
  const wanted = wantedScales(settings.landscape, settings.shard);
  const rays = new Rays(context);
  const scales = await searchScales(context, own, wanted, rays, reference);
  sayScaleGaps(place.step, scales, say);
  const points = fixedKlPoints(settings.landscape, scales);
  await settleOrder(own, points, say, rayCoordinatesOf);
  const after = await measurePoints({
    ...{ context, folder: own, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} points at fixed KL around step ${place.step}`,
    prepare: async () => {
      await rays.prepare(points.map(({ i }) => i));
      return pointsAlong(points, (ray, scale) => rays.stepsTo(ray, scale));
    },
  });
  // A gap needs no measurement.
  return after + wanted.length - points.length;
}

async function searchScales(
  context: SweepContext,
  own: string,
  wanted: readonly Pick<ScaleRecord, "ray" | "sign" | "target">[],
  rays: Rays,
  reference: Reference,
): Promise<ScaleRecord[]> {
  const { signal, say } = context;
  ensureFolder(own);
  const path = rayPaths(own).scales;
  const found = new Map<string, ScaleRecord>();
  const { journal } = openJournalOf(
    path,
    scaleRecord,
    (message) => say(`${message} What was cut off is searched again.`),
    (record) => found.set(scaleKey(record), record),
  );
  try {
    const left = wanted.filter((one) => !found.has(scaleKey(one)));
    if (left.length > 0) {
      await rays.prepare(new Set(left.map(({ ray }) => ray)));
      await withKlAt(context, reference, async (klAt) => {
        for (const { ray, sign, target } of left) {
          signal.throwIfAborted();
          const ofHalf = [...found.values()].filter((one) => one.ray === ray && one.sign === sign);
          const kept = await searchScale(context, klAt, rays, reference, { ray, sign, target }, ofHalf);
          journal.append(kept);
          found.set(scaleKey(kept), kept);
        }
      });
    }
  } finally {
    journal.close();
  }
  const inOrder = wanted.flatMap((one) => found.get(scaleKey(one)) ?? []);
  if (!isInOrder([...found.values()], wanted)) writeJournal(path, scaleRecord, inOrder);
  return inOrder;
}

/** What is said of halves of rays on which no scale was found. */
export function sayScaleGaps(step: number, scales: readonly ScaleRecord[], say: (line: string) => void): void {
  for (const { ray, sign, target, scale, kl } of scales)
    if (scale === null)
      say(
        `Step ${step}, ray ${ray}, ${sign < 0 ? "opposite half" : "first half"}: no scale was found that reaches KL ${target} within ` +
          `${100 * KL_TOLERANCE}% in ${MOST_PASSES} passes; the nearest was ${kl === null ? "no finite number" : kl.toPrecision(3)}. It stays a gap.`,
      );
}

/** Searches one scale. @param ofHalf  what was found for other targets on this half of the ray */
export async function searchScale(
  { onTiming }: SweepContext,
  klAt: KlAt,
  rays: Rays,
  reference: Reference,
  { ray, sign, target }: Pick<ScaleRecord, "ray" | "sign" | "target">,
  ofHalf: readonly ScaleRecord[],
): Promise<ScaleRecord> {
  const start = performance.now();
  // What other targets tried on this half of the ray: the first scale is the same.
  const known = new Map(ofHalf.flatMap((one) => one.passes));
  let passes = 0;
  const search = { target, start: FIRST_SCALE, tolerance: KL_TOLERANCE, mostPasses: MOST_PASSES };
  const reached = await findScale(search, async (scale) => {
    const before = known.get(scale);
    if (before !== undefined) return before ?? Number.NaN;
    passes++;
    return klAt(rays.stepsTo(ray, sign * scale));
  });
  const completions = passes * reference.rollouts.length;
  onTiming?.({ phase: "scales", seconds: (performance.now() - start) / 1000, completions });
  const record = { ray, sign, target, ...reached };
  return { ...record, passes: record.passes.map(([scale, kl]): [number, number | null] => [scale, kl]) };
}

/** Measures the missing points of a line from this checkpoint to another one. @returns as `measureRays` */
export async function measureLine(
  { context, folder, reference, phase, before }: PartJob,
  stepsAhead: number,
): Promise<number> {
  const { step } = context.place;
  const points = linePoints(context.settings.landscape, context.settings.shard);
  const own = lineFolder(folder, step, stepsAhead);
  await settleOrder(own, points, context.say, rayCoordinatesOf);
  return measurePoints({
    ...{ context, folder: own, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} points on the line from step ${step} to step ${step + stepsAhead}`,
    prepare: () => openLine(context, reference, stepsAhead, points),
  });
}

/** Points on a line to another checkpoint, whose direction is in memory until they are freed. */
export async function openLine(
  context: SweepContext,
  reference: Reference,
  stepsAhead: number,
  points: readonly PointPlace[],
): Promise<PointSet<PointPlace>> {
  const line = await differenceTo(context, reference, stepsAhead);
  return {
    points,
    stepsTo: (point) => (name) => stepOf(line.get(name), point.alpha),
    free: () => freeDirection(line),
  };
}

/** θ_{t+k} − θ_t over all parameters, so that position 1 is the other checkpoint. */
async function differenceTo(
  { model, settings, place, signal, say }: SweepContext,
  reference: Reference,
  stepsAhead: number,
): Promise<Direction> {
  const arena = model.weights;
  const context = { arena, names: arena.names, signal };
  const sources = new DirectionSources({ ...context, config: model.config, place, reference, settings, say });
  try {
    const axis = { ...settings.landscape.directions.delta, kind: "checkpoint-difference", stepsAhead } as const;
    const { raw } = await sources.open("line", axis, "");
    return (await scaleDirection(raw, "none", { ...context, label: "line" })).direction;
  } finally {
    await sources.close();
  }
}
