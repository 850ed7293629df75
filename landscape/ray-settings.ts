// What can be set about rays and lines through a checkpoint. docs/rays.md tells what they are for.
import { choice, integer, integers, number, numbers, texts, type Values } from "../engine/host/index.ts";

/** Holds for a setting that may change while nothing depends on it; `rayAlters` says when. */
const whileUnused = (): boolean => true;

export const raySettings = {
  count: integer({
    default: 0,
    min: 0,
    unit: "rays",
    changes: "extends",
    meaning:
      "random directions along which reward and KL are measured at several radii, at every checkpoint of landscape.steps; 0 for none",
  }),
  radii: numbers({
    default: [],
    above: 0,
    changes: whileUnused,
    meaning:
      "distances from the checkpoint on every ray, ascending, in units of the norm; empty for landscape.rays.points equal steps up to landscape.rays.radius",
  }),
  points: integer({
    default: 6,
    min: 1,
    unit: "points",
    changes: whileUnused,
    meaning: "equal steps on a ray, if no radii are listed",
  }),
  radius: number({
    default: 0.1,
    above: 0,
    changes: whileUnused,
    meaning: "the largest radius, if no radii are listed",
  }),
  signs: choice({
    default: "both",
    options: ["both", "plus"],
    changes: whileUnused,
    meaning:
      "whether a ray is also followed in the opposite direction; the two halves of a ray are one independent unit",
  }),
  norm: choice({
    default: "tensor",
    options: ["tensor", "global"],
    changes: whileUnused,
    meaning: "what a ray's direction is scaled to the norm of: each tensor, or all moved weights together",
  }),
  kl: numbers({
    default: [],
    above: 0,
    unit: "nats per token",
    changes: whileUnused,
    meaning:
      "KL from the checkpoint that each half of each ray is scaled to, ascending; reward is measured there too. Empty for none",
  }),
  worst: texts({
    default: [],
    changes: "extends",
    meaning:
      "worst-case rays beside the random ones, at the same radii and norm: kl, where KL grows fastest; reward, along ascent on −J; empty for none",
  }),
  freshPrompts: integer({
    default: 0,
    min: 0,
    unit: "prompts",
    changes: whileUnused,
    meaning:
      "prompts that no map has, on which every point of a ray with more reward than the checkpoint is evaluated again: its lead was selected on noise; 0 for none",
  }),
  freshSeed: integer({
    default: 54321,
    min: 0,
    changes: whileUnused,
    meaning: "random seed for these prompts; those that the maps have too are left out",
  }),
} as const;

export const lineSettings = {
  stepsAhead: integers({
    default: [],
    changes: "extends",
    unit: "steps",
    meaning:
      "lines from every checkpoint of landscape.steps to the one this many steps later (earlier if negative), if train.checkpoints has it; empty for none",
  }),
  positions: numbers({
    default: [-0.5, 0.25, 0.5, 0.75, 1, 1.5],
    minLength: 1,
    changes: whileUnused,
    meaning:
      "where on a line reward and KL are measured: 0 is the checkpoint, which is always measured, 1 the other one",
  }),
} as const;

export type RaySettings = Values<typeof raySettings>;
export type LineSettings = Values<typeof lineSettings>;

interface Both {
  readonly rays: RaySettings;
  readonly line: LineSettings;
}

/** The radii of every ray, ascending. */
export function radiiOf({ radii, points, radius }: RaySettings): readonly number[] {
  return radii.length > 0 ? radii : Array.from({ length: points }, (_, k) => (radius * (k + 1)) / points);
}

export const signsOf = ({ signs }: RaySettings): readonly (1 | -1)[] => (signs === "both" ? [1, -1] : [1]);

/** The steps that a line may lead to: those of the training, or of the checkpoints that were given. */
export const ownCheckpoints = (settings: {
  readonly checkpoints: readonly string[];
  readonly train: { readonly checkpoints: readonly number[] };
  readonly landscape: { readonly steps: readonly number[] };
}): readonly number[] => (settings.checkpoints.length > 0 ? settings.landscape.steps : settings.train.checkpoints);

export const worstKinds = ["kl", "reward"] as const;
/** A worst-case ray: along the steepest growth of KL, or along ascent on −J. */
export type WorstKind = (typeof worstKinds)[number];

/** The worst-case rays asked for, in the order of `worstKinds`; none without random rays. */
export const worstRaysOf = ({ count, worst }: RaySettings): WorstKind[] =>
  count === 0 ? [] : worstKinds.filter((kind) => worst.includes(kind));

/** The lines of a checkpoint, as steps ahead. */
export const linesFrom = (step: number, { stepsAhead }: LineSettings, checkpoints: readonly number[]): number[] =>
  stepsAhead.filter((ahead) => checkpoints.includes(step + ahead));

/** Which settings have an effect. @param key  below landscape */
export function rayApplies(key: string, { rays, line }: Both): boolean {
  if (key.startsWith("line.")) return line.stepsAhead.length > 0;
  if (!key.startsWith("rays.")) return true;
  if (rays.count === 0) return false;
  if (key === "rays.freshSeed" && rays.freshPrompts === 0) return false;
  return (key !== "rays.points" && key !== "rays.radius") || rays.radii.length === 0;
}

const hasAll = (before: readonly number[], after: readonly number[]): boolean =>
  before.every((value) => after.includes(value));

/** Whether a change alters what was measured before: points that exist must be among the new ones. @param key  below landscape */
export function rayAlters(key: string, before: Both, after: Both): boolean {
  if (key === "line.positions")
    return before.line.stepsAhead.length > 0 && !hasAll(before.line.positions, after.line.positions);
  if (!key.startsWith("rays.") || before.rays.count === 0) return false;
  switch (key) {
    case "rays.radii":
    case "rays.points":
    case "rays.radius":
      return !hasAll(radiiOf(before.rays), radiiOf(after.rays));
    case "rays.signs":
      return !hasAll(signsOf(before.rays), signsOf(after.rays));
    case "rays.kl":
      return !hasAll(before.rays.kl, after.rays.kl);
    case "rays.freshPrompts":
      return after.rays.freshPrompts < before.rays.freshPrompts;
    case "rays.freshSeed":
      return before.rays.freshPrompts > 0;
    case "rays.norm":
      return true;
    default:
      return false;
  }
}

/**
 * Combinations that are refused, each as one sentence.
 * @param checkpoints  null if they are not known yet
 */
export function rayProblems(
  { rays, line, steps }: Both & { readonly steps: readonly number[] },
  checkpoints: readonly number[] | null,
): string[] {
  const ascends = (values: readonly number[]): boolean => values.every((value, k) => k === 0 || value > values[k - 1]);
  return [
    ...(["radii", "kl"] as const).flatMap((name) =>
      ascends(rays[name])
        ? []
        : [`landscape.rays.${name}: expected each number above the one before, got ${rays[name].join(", ")}`],
    ),
    ...rays.worst
      .filter((one) => !worstKinds.some((kind) => kind === one))
      .map((one) => `landscape.rays.worst: expected some of ${worstKinds.join(", ")}, got ${JSON.stringify(one)}`),
    ...(rays.freshPrompts === 1
      ? ["landscape.rays.freshPrompts: one prompt says little; expected 0 for none, or at least 2"]
      : []),
    ...(ascends(line.positions) && !line.positions.includes(0)
      ? []
      : [
          `landscape.line.positions: expected ascending numbers without 0 (the checkpoint itself is always measured), got ${line.positions.join(", ")}`,
        ]),
    ...line.stepsAhead
      .filter(
        (ahead) => ahead === 0 || (checkpoints !== null && !steps.some((step) => checkpoints.includes(step + ahead))),
      )
      .map((ahead) =>
        ahead === 0
          ? "landscape.line.stepsAhead: 0 steps ahead is the checkpoint itself, so there is no line"
          : `landscape.line.stepsAhead: no checkpoint lies ${ahead} steps after one of landscape.steps (${steps.join(", ")}); ` +
            `train.checkpoints has ${checkpoints?.join(", ")}`,
      ),
  ];
}
