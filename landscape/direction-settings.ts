// What can be set about the directions of a slice, and about its centre. docs/directions.md has the formulas.
import { boolean, choice, integer, number, text, texts, type Values } from "../engine/host/index.ts";

export const directionKinds = [
  "gaussian",
  "rank-1",
  "gradient",
  "adamw-gradient",
  "checkpoint-difference",
  "pca",
  "file",
] as const;
export type DirectionKind = (typeof directionKinds)[number];

export const normRules = ["tensor", "global", "row", "used-row", "none"] as const;
export type NormRule = (typeof normRules)[number];

export const parameterGroups = ["embedding", "attention", "mlp", "norms", "biases"] as const;
export type ParameterGroup = (typeof parameterGroups)[number];

const axisSettings = (axis: "delta" | "eta") =>
  ({
    kind: choice({
      default: "gaussian",
      options: directionKinds,
      meaning: `what ${axis} is: random (gaussian, rank-1), the gradient of J at the checkpoint (as it is, or as AdamW would step), the difference to another checkpoint, a principal component of the checkpoints, or a state-dict file`,
    }),
    norm: choice({
      default: "tensor",
      options: normRules,
      meaning: `what ${axis} is scaled to the norm of: each tensor, all moved weights together, each row, each row but those of the embedding that no token of the task uses; or none: as it is`,
    }),
    file: text({
      default: "",
      meaning: `kind file: safetensors file with ${axis}, or a folder of such files; it has the names and shapes of the weights`,
    }),
    stepsAhead: integer({
      default: 10,
      unit: "steps",
      meaning: `kind checkpoint-difference: ${axis} leads to the checkpoint this many steps later, or earlier if negative; it must be in train.checkpoints`,
    }),
    component: integer({
      default: axis === "delta" ? 1 : 2,
      min: 1,
      meaning: `kind pca: which principal component of train.checkpoints ${axis} is, from 1`,
    }),
  }) as const;

export const directionSettings = {
  groups: texts({
    default: parameterGroups,
    minLength: 1,
    meaning: `the parameters that move: ${parameterGroups.join(", ")}; the others stay as they are`,
  }),
  leaveOut: texts({
    default: [],
    meaning: "names of tensors that do not move, with * for any text, such as model.layers.0.*",
  }),
  noise: choice({
    default: "shared",
    options: ["shared", "per-checkpoint"],
    meaning: "whether random directions are the same at every checkpoint of a slice, or drawn for each",
  }),
  orthogonal: boolean({
    default: false,
    meaning: "whether eta is made orthogonal to delta over all moved parameters (Gram-Schmidt), at its norm",
  }),
  kl: number({
    default: 0,
    min: 0,
    unit: "nats per token",
    meaning:
      "KL from the checkpoint that delta and eta are each scaled to at the grid's edge, where alpha or beta is landscape.radius, so that maps of several checkpoints, tasks and models compare; 0 leaves them at their norms",
  }),
  delta: axisSettings("delta"),
  eta: axisSettings("eta"),
} as const;

export const centreSettings = {
  alpha: number({
    default: 0,
    meaning: "where the grid's centre is along delta, in units of landscape.radius; 0 is the checkpoint",
  }),
  beta: number({
    default: 0,
    meaning: "where the grid's centre is along eta, in units of landscape.radius; 0 is the checkpoint",
  }),
  random: number({
    default: 0,
    min: 0,
    meaning:
      "distance of the grid's centre from the checkpoint along a third, Gaussian direction, in units of each tensor's norm",
  }),
} as const;

export type DirectionSettings = Values<typeof directionSettings>;
export type AxisSettings = DirectionSettings["delta"];
export type CentreSettings = Values<typeof centreSettings>;

const isRandom = ({ kind }: AxisSettings): boolean => kind === "gaussian" || kind === "rank-1";

/** The part of an axis that has an effect: what distinguishes it from another. */
export function axisIdentity({ kind, norm, file, stepsAhead, component }: AxisSettings): Record<string, unknown> {
  return {
    ...{ kind, norm },
    ...(kind === "file" && { file }),
    ...(kind === "checkpoint-difference" && { stepsAhead }),
    ...(kind === "pca" && { component }),
  };
}

/** Whether the directions are scaled to a KL at the grid's edge. Their scale then follows radius and reference completions. */
export const isFixedKl = ({ kl }: DirectionSettings): boolean => kl > 0;

/** Whether both directions are Gaussian, each tensor at its own norm, around the checkpoint: as without these settings. */
export function areUsual(directions: DirectionSettings, centre: CentreSettings): boolean {
  const { groups, leaveOut, noise, orthogonal, kl, delta, eta } = directions;
  return (
    [delta, eta].every(({ kind, norm }) => kind === "gaussian" && norm === "tensor") &&
    parameterGroups.every((group) => groups.includes(group)) &&
    leaveOut.length === 0 &&
    noise === "shared" &&
    !orthogonal &&
    kl === 0 &&
    !isBeside(centre)
  );
}

/** Whether the grid's centre is beside the checkpoint. */
export const isBeside = ({ alpha, beta, random }: CentreSettings): boolean => alpha !== 0 || beta !== 0 || random !== 0;

/** Which settings of [landscape.directions] have an effect. @param key  below landscape */
export function directionApplies(key: string, { kl, delta, eta }: DirectionSettings): boolean {
  if (key === "directions.kl") return kl > 0;
  const needs: Record<string, DirectionKind> = { file: "file", stepsAhead: "checkpoint-difference", component: "pca" };
  const [, axis, name] = /^directions\.(delta|eta)\.(.+)$/.exec(key) ?? [];
  const needed = name === undefined ? undefined : needs[name];
  return needed === undefined || (axis === "delta" ? delta : eta).kind === needed;
}

/** Whether a longer list of checkpoints would change a direction. */
export function followsTrajectory({ delta, eta }: DirectionSettings): boolean {
  return delta.kind === "pca" || eta.kind === "pca";
}

/** Combinations that are refused, each as one sentence. */
export function directionProblems(
  {
    directions,
    centre,
    steps,
    slices,
  }: {
    directions: DirectionSettings;
    centre: CentreSettings;
    steps: readonly number[];
    slices: number;
  },
  checkpoints: readonly number[],
): string[] {
  const { groups, delta, eta } = directions;
  const axes = [
    ["delta", delta],
    ["eta", eta],
  ] as const;
  const unknown = groups.filter((group) => !parameterGroups.some((known) => known === group));
  const isSame = JSON.stringify(axisIdentity(delta)) === JSON.stringify(axisIdentity({ ...eta, norm: delta.norm }));
  return [
    ...unknown.map(
      (group) =>
        `landscape.directions.groups: expected some of ${parameterGroups.join(", ")}, got ${JSON.stringify(group)}`,
    ),
    ...axes.flatMap(([axis, { kind, file, stepsAhead, component }]) => {
      const at = `landscape.directions.${axis}`;
      switch (kind) {
        case "file":
          return file === "" ? [`${at}.file: kind file needs the path of a safetensors file or a folder of them`] : [];
        case "pca":
          return component < checkpoints.length
            ? []
            : [
                `${at}.component: ${checkpoints.length} checkpoints (train.checkpoints) have ${Math.max(0, checkpoints.length - 1)} ` +
                  `principal components, got ${component}`,
              ];
        case "checkpoint-difference":
          if (stepsAhead === 0)
            return [`${at}.stepsAhead: 0 steps ahead is the checkpoint itself; the difference would be 0`];
          return steps
            .filter((step) => !checkpoints.includes(step + stepsAhead))
            .map(
              (step) =>
                `${at}.stepsAhead: from step ${step} it leads to step ${step + stepsAhead}, which has no checkpoint; choose ` +
                `another number of steps, or add it to train.checkpoints (${checkpoints.join(", ")})`,
            );
        default:
          return [];
      }
    }),
    ...(isSame && !isRandom(delta)
      ? ["landscape.directions.eta: it is the same direction as delta, so they span no plane; choose another kind"]
      : []),
    ...(isFixedKl(directions) && isBeside(centre)
      ? [
          "landscape.directions.kl: KL at the edge is that of a grid around the checkpoint, and landscape.centre puts this one beside it; " +
            "set one of the two to 0",
        ]
      : []),
    ...(slices > 1 && !isRandom(delta) && !isRandom(eta) && centre.random === 0
      ? [`landscape.slices: neither direction is random, so ${slices} slices would be the same; set it to 1`]
      : []),
  ];
}
