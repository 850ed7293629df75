// How what is measured besides maps grows with its settings: rays, lines, noise floors, pairs, KL from other checkpoints. What is kept
// is set aside (set-aside.ts) and taken when the part is made anew. What rests on something else now is deleted: scales at fixed
// KL and worst-case rays are functions of the checkpoint's own completions.
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { ensureFolder, explained, type OnDamage } from "../../engine/host/index.ts";
import { linesFrom, ownCheckpoints, radiiOf, worstRaysOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { klFromRecord } from "./kl-from-files.ts";
import {
  earlierKlFromPath,
  earlierPairsFolder,
  fixedKlFolder,
  freshFolder,
  klFromPath,
  lineFolder,
  noiseFloorFolder,
  noisePaths,
  pairsFolder,
  raysFolder,
  sliceFolder,
  slicePaths,
  worstFolder,
} from "./layout.ts";
import { noiseDraw } from "./noise-files.ts";
import { type FreshPrompts, readFreshPrompts, writeFreshPrompts } from "./ray-files.ts";
import { coordinatesOf, dropEarlier, rayCoordinatesOf, setAsidePoints, setAsideRecords } from "./set-aside.ts";

/** What a folder was measured with, and what is asked for now. */
export interface Growth {
  readonly before: StudySettings;
  readonly after: StudySettings;
}

export interface GrownPart {
  /** Files of finished rollouts whose points are about to move. */
  readonly underWay: readonly string[];
  /** Whether the shards of a study share its points by their number, so that a shard would have others now. */
  readonly isCut: boolean;
  setAside(say: OnDamage): Promise<void> | void;
}

/** Whether one of the two sets of completions has another size. */
export const hasOther = ({ before, after }: Growth, set: "reference" | "rollouts"): boolean =>
  !isDeepStrictEqual(before.landscape[set], after.landscape[set]);

/** The parts of a run folder that have measurements and grow. */
export function grownParts(folder: string, growth: Growth): GrownPart[] {
  const { steps, slices, klFrom, noiseFloor, pairs } = growth.before.landscape;
  return steps.flatMap((step) => [
    ...raysThatGrow(folder, step, growth),
    ...(noiseFloor > 0 && hasOther(growth, "rollouts") ? noiseThatGrows(folder, step) : []),
    ...(pairs && hasOther(growth, "reference") ? pairsThatGrow(folder, step, growth) : []),
    ...Array.from({ length: slices }, (_, slice) => sliceFolder(folder, { step, slice })).flatMap((own) =>
      klFrom.flatMap((from) => klFromThatGrows(own, from, growth)),
    ),
  ]);
}

const isOther = ({ before, after }: Growth, of: (landscape: StudySettings["landscape"]) => unknown): boolean =>
  !isDeepStrictEqual(of(before.landscape), of(after.landscape));

function raysThatGrow(folder: string, step: number, growth: Growth): GrownPart[] {
  const { before } = growth;
  const { rays, line } = before.landscape;
  const hasReference = hasOther(growth, "reference");
  const hasCompletions = hasReference || hasOther(growth, "rollouts");
  const hasSigns = isOther(growth, (landscape) => landscape.rays.signs);
  const hasPoints = hasCompletions || hasSigns || isOther(growth, (landscape) => radiiOf(landscape.rays));
  const hasSmallest = isOther(growth, (landscape) => radiiOf(landscape.rays)[0]);
  const hasFresh = hasPoints || isOther(growth, (landscape) => landscape.rays.freshPrompts);
  const hasKl = hasCompletions || hasSigns || isOther(growth, (landscape) => landscape.rays.kl);
  const kept = (
    own: string,
    grows: boolean,
    { isCut = false, setAside = (say: OnDamage) => setAsidePoints(own, rayCoordinatesOf, say) } = {},
  ): GrownPart[] => {
    const { cells, underWay } = slicePaths(own);
    return grows && existsSync(cells) ? [{ underWay: [underWay], isCut, setAside }] : [];
  };
  const deleted = (own: string, what: string): GrownPart[] => {
    if (!existsSync(own)) return [];
    const setAside = (say: OnDamage): void => {
      say(`Step ${step}: ${what}`);
      explained(own, () => rmSync(own, { recursive: true, force: true }));
    };
    return [{ underWay: [], isCut: false, setAside }];
  };
  const { reference, rollouts } = before.landscape;
  const seen = Math.max(reference.prompts, rollouts.prompts);
  const prompts: FreshPrompts = { seen, prompts: rays.freshPrompts };
  const fresh = freshFolder(folder, step);
  return [
    ...(rays.count === 0
      ? []
      : [
          ...kept(raysFolder(folder, step), hasPoints),
          ...(hasReference
            ? deleted(
                fixedKlFolder(folder, step),
                "KL is measured on the checkpoint's own completions, which become more: the scales at fixed KL are searched again.",
              )
            : kept(fixedKlFolder(folder, step), hasKl)),
          ...kept(fresh, hasFresh, { setAside: (say) => setAsideFresh(fresh, prompts, say) }),
          ...worstRaysOf(rays).flatMap((kind) =>
            hasReference || (kind === "kl" && hasSmallest)
              ? deleted(
                  worstFolder(folder, step, kind),
                  `the worst-case ray (${kind}) rests on the checkpoint's own completions${kind === "kl" ? " and on the smallest radius" : ""}: it is made again.`,
                )
              : kept(worstFolder(folder, step, kind), hasPoints),
          ),
        ]),
    ...linesFrom(step, line, ownCheckpoints(before)).flatMap((ahead) => {
      const hasPositions = isOther(growth, (landscape) => landscape.line.positions);
      return kept(lineFolder(folder, step, ahead), hasCompletions || hasPositions, { isCut: hasPositions });
    }),
  ];
}

/** Points that an earlier growth left are of the same prompts, or they are measured again. */
async function setAsideFresh(own: string, prompts: FreshPrompts, say: OnDamage): Promise<void> {
  if (!isDeepStrictEqual(readFreshPrompts(slicePaths(own).earlier) ?? prompts, prompts)) dropEarlier(own);
  await setAsidePoints(own, rayCoordinatesOf, say, (earlier) => writeFreshPrompts(earlier, prompts));
}

function noiseThatGrows(folder: string, step: number): GrownPart[] {
  const { draws, earlier, underWay } = noisePaths(noiseFloorFolder(folder, step));
  if (!existsSync(draws)) return [];
  const setAside = (say: OnDamage): void => setAsideRecords(draws, earlier, noiseDraw, ({ draw }) => String(draw), say);
  return [{ underWay: [underWay], isCut: false, setAside }];
}

function pairsThatGrow(folder: string, step: number, { before, after }: Growth): GrownPart[] {
  const own = pairsFolder(folder, step);
  const earlier = earlierPairsFolder(folder, step);
  if (!existsSync(own)) return [];
  const hasGroups = before.landscape.reference.rollouts !== after.landscape.reference.rollouts;
  const setAside = (): void =>
    explained(own, () => {
      // J compares each completion with its group.
      if (hasGroups) return rmSync(own, { recursive: true });
      ensureFolder(earlier);
      for (const name of readdirSync(own)) if (name.endsWith(".json")) renameSync(join(own, name), join(earlier, name));
    });
  return [{ underWay: [], isCut: false, setAside }];
}

function klFromThatGrows(own: string, from: number, growth: Growth): GrownPart[] {
  const { before, after } = growth;
  const path = klFromPath(own, from);
  const grows =
    hasOther(growth, "reference") || isOther(growth, ({ points }) => points) || isOther(growth, ({ radius }) => radius);
  if (!grows || !existsSync(path)) return [];
  const hasGroups = before.landscape.reference.rollouts !== after.landscape.reference.rollouts;
  const setAside = (say: OnDamage): void => {
    if (hasGroups) explained(path, () => rmSync(path));
    else setAsideRecords(path, earlierKlFromPath(own, from), klFromRecord, coordinatesOf, say);
  };
  return [{ underWay: [], isCut: false, setAside }];
}
