// Improving neighbours, evaluated again. A direction whose reward exceeds the checkpoint's was selected on the noise of prompts and
// rollouts, so some of its lead is chance. It is measured again on prompts that no map has, and so with other noise, beside the
// checkpoint itself.
import { type Phase, SettingsError } from "../../engine/host/index.ts";
import { type Episode, episodeList } from "../../rl/index.ts";
import { settleOrder } from "../files/arrived-cells.ts";
import { freshFolder, raysFolder, slicePaths } from "../files/layout.ts";
import { CHECKPOINT, readFreshPrompts, readRayPoints } from "../files/ray-files.ts";
import { dropEarlier, rayCoordinatesOf } from "../files/set-aside.ts";
import type { PointPlace } from "../grid.ts";
import type { StudySettings } from "../settings.ts";
import { improvingPoints } from "../statistics/rays/density.ts";
import { measurePoints } from "./measure-points.ts";
import type { PartJob } from "./part-job.ts";
import { pointsAlong, Rays } from "./rays.ts";
import type { Reference } from "./reference.ts";
import { prepareReference, type SweepContext } from "./sweep-context.ts";

/** KL is not wanted on fresh prompts: the least reference that a sweep can have. */
const leastReference = { prompts: 2, rollouts: 2 };

/** The settings of a sweep over the fresh prompts. */
export function freshSettings(settings: StudySettings): StudySettings {
  const { landscape } = settings;
  const { freshPrompts, freshSeed } = landscape.rays;
  return {
    ...settings,
    landscape: {
      ...landscape,
      ...{ episodeSeed: freshSeed, reference: leastReference, conversations: 0 },
      rollouts: { ...landscape.rollouts, prompts: freshPrompts },
    },
  };
}

/** Enough different episodes of `freshSeed`, whichever of them the maps have too. */
const enoughEpisodes = ({ landscape: { rays, reference, rollouts } }: StudySettings): number =>
  rays.freshPrompts + Math.max(reference.prompts, rollouts.prompts);

/** The episodes that fresh prompts ask for, for the check before a run. Empty without fresh prompts. */
export function freshUses(settings: StudySettings): { setting: string; count: number; seed: number }[] {
  const { count, freshPrompts, freshSeed } = settings.landscape.rays;
  if (count === 0 || freshPrompts === 0) return [];
  return [{ setting: "landscape.rays.freshPrompts", count: enoughEpisodes(settings), seed: freshSeed }];
}

/**
 * The first episodes of `freshSeed` whose first messages no map has.
 * @param ofMaps  how many prompts the maps have
 */
function freshEpisodes(
  { environment, settings }: Pick<SweepContext, "environment" | "settings">,
  ofMaps: number,
): Episode[] {
  const { rays, episodeSeed } = settings.landscape;
  const known = episodeList(environment, episodeSeed).distinct(ofMaps);
  const seen = new Set(known.map(({ prompt }) => prompt));
  const fresh = episodeList(environment, rays.freshSeed)
    .firstDistinct(enoughEpisodes(settings))
    .filter(({ prompt }) => !seen.has(prompt))
    .slice(0, rays.freshPrompts);
  if (fresh.length === rays.freshPrompts) return fresh;
  throw new SettingsError(
    `landscape.rays.freshPrompts: expected ${rays.freshPrompts} episodes of seed ${rays.freshSeed} that the maps do not have, the ` +
      `environment has ${fresh.length}. Lower the number, or give more data.`,
  );
}

/** The checkpoint and the points of its rays with more reward, in the order of measurement; null while rays are missing. */
export function freshPoints(folder: string, step: number, landscape: StudySettings["landscape"]): PointPlace[] | null {
  const measured = readRayPoints(folder, raysFolder(folder, step), step, () => {});
  if (measured === null) return null;
  const better = improvingPoints(measured.cells).filter(({ i }) => i < landscape.rays.count);
  return [CHECKPOINT, ...better.map(({ i, j, alpha, beta }) => ({ i, j, alpha, beta }))];
}

const episodesNow = (context: Pick<SweepContext, "environment" | "settings">): Episode[] => {
  const { reference, rollouts } = context.settings.landscape;
  return freshEpisodes(context, Math.max(reference.prompts, rollouts.prompts));
};

/** Deletes points that were set aside if they are of other prompts than those of now. @param own  the folder of the fresh points */
export function dropOtherPrompts(
  context: Pick<SweepContext, "environment" | "settings" | "say">,
  step: number,
  own: string,
): void {
  const earlier = readFreshPrompts(slicePaths(own).earlier);
  if (earlier === null) return;
  const episodes = episodesNow(context);
  // More prompts of the maps may have taken one from the fresh ones.
  const before = freshEpisodes(context, earlier.seen).slice(0, earlier.prompts);
  if (before.every(({ prompt }, k) => prompt === episodes[k].prompt)) return;
  context.say(`Step ${step}: the maps now have fresh prompts too, so all points on fresh prompts are measured again.`);
  dropEarlier(own);
}

/** What points on fresh prompts are measured with. @param phase  shows how the completions are drawn */
export async function openFresh(
  context: SweepContext,
  phase: Phase | null = null,
): Promise<{ readonly context: SweepContext; readonly reference: Reference }> {
  const fresh = { ...context, episodes: episodesNow(context), settings: freshSettings(context.settings) };
  const drawing = phase?.phase("fresh prompts", leastReference.prompts * leastReference.rollouts, "completions");
  const reference = await prepareReference(fresh, drawing ?? unshown);
  drawing?.done();
  return { context: fresh, reference };
}

const unshown: Phase = { advance() {}, moveTo() {}, phase: () => unshown, done() {} };

/** Measures the improving neighbours on fresh prompts, once all rays are measured. @returns points that `phase` has counted afterwards */
export async function measureFresh({ context, folder, phase, before }: PartJob): Promise<number> {
  const { step } = context.place;
  const points = freshPoints(folder, step, context.settings.landscape);
  if (points === null) throw new Error(`fresh prompts: the rays of step ${step} are not measured`);
  const place = freshFolder(folder, step);
  dropOtherPrompts(context, step, place);
  // Workers of a queue may have left points in another order.
  await settleOrder(place, points, context.say, rayCoordinatesOf);
  const { context: fresh, reference } = await openFresh(context, phase);
  return measurePoints({
    ...{ context: fresh, folder: place, reference, phase, before, placeOf: rayCoordinatesOf },
    whole: `${points.length} improving neighbours of step ${step} on fresh prompts`,
    prepare: async () => {
      const rays = new Rays(context);
      await rays.prepare(points.flatMap(({ i }) => (i < 0 ? [] : [i])));
      return pointsAlong(points, (ray, scale) => rays.stepsTo(ray, scale));
    },
  });
}
