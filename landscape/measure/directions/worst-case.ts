// The worst directions among all that a random ray could have: those of the same norm, by the same rule.
//
// "reward": ascent on −J. J is linear near the checkpoint, so of all directions whose tensors have the given norms −∇J, scaled by the
// rule, lowers it the most (objective-gradient.ts has ∇J).
//
// "kl": KL(θ ‖ θ + sd) = ½ s² dᵀHd + … has no gradient at the checkpoint, so H must be asked for: its product with d is a central
// difference of gradients of L = −Σ log π(token) ÷ tokens over the checkpoint's own completions,
//   Hd ≈ (∇L(θ + εd) − ∇L(θ − εd)) / 2ε,
// whose mean over completions is the Fisher matrix's product. From a Gaussian, d ← Hd scaled by the norm rule again and again: the
// power method. With norms per tensor it is the generalised power method, under which dᵀHd rises if H is positive.
// Source: Journée et al. 2010, "Generalized power method for sparse principal component analysis", section 2.
import { moveIntoSlot, type ParameterArena, philoxKey, wordsOf } from "../../../engine/index.ts";
import { makeWeights } from "../../../model/index.ts";
import { type Example, gradientOfLogProbs } from "../../../rl/index.ts";
import { radiiOf, type WorstKind } from "../../ray-settings.ts";
import type { StudySettings } from "../../settings.ts";
import { type Direction, freeDirection, innerProducts, stepOf, sumOf } from "./direction.ts";
import { groupsOf, movedNames } from "./groups.ts";
import { copyTensor, type SourceContext } from "./kinds.ts";
import { type NormContext, type ScaledDirection, scaleDirection } from "./norm-rules.ts";
import { objectiveGradient } from "./objective-gradient.ts";

/** Products of H with a direction. Each but the last makes the next direction. */
const products = 5;
/** ε is at most this share of the smallest radius of the rays, */
const displaced = 0.25;
/** and, once a curvature is known, so small that KL at ε is at most this, nats per token. */
const displacedKl = 1e-3;

export interface WorstJob extends Omit<SourceContext, "names" | "settings"> {
  readonly settings: StudySettings;
}

export interface WorstDirection extends ScaledDirection {
  /** dᵀHd from the Gaussian to this direction, nats per token and squared radius; empty for "reward". */
  readonly curvatures: readonly number[];
}

/**
 * The caller frees the direction. Allocates the weights once more, with gradients, while it is made.
 * @throws NumericalError when the gradient of J is 0 or not finite; SettingsError when the direction is
 */
export async function worstDirection(kind: WorstKind, job: WorstJob): Promise<WorstDirection> {
  const { arena, config, settings, signal } = job;
  const names = movedNames(groupsOf(config), settings.landscape.directions);
  const context: NormContext = { arena, names, signal, label: `worst ray (${kind})` };
  switch (kind) {
    case "reward":
      return { ...(await descentOfJ(job, context)), curvatures: [] };
    case "kl":
      return steepestKl(job, context);
    default:
      return kind satisfies never;
  }
}

const maxTokensOf = ({ batch }: StudySettings): number => Math.min(batch.trainTokens, batch.tokens);

async function descentOfJ(job: WorstJob, context: NormContext): Promise<ScaledDirection> {
  const { settings } = job;
  const found = await objectiveGradient({ ...job, train: settings.train, maxTokens: maxTokensOf(settings) });
  try {
    const rule = settings.landscape.rays.norm;
    const { direction, squares } = await scaleDirection(gradientsOf(found.arena), rule, context);
    return { direction: new Map([...direction].map(([name, one]) => [name, { ...one, scale: -one.scale }])), squares };
  } finally {
    found.free();
  }
}

/** The gradients of an arena as a direction before its norm rule. */
const gradientsOf = (from: ParameterArena) => ({
  key: null,
  write: (name: string, into: Parameters<typeof copyTensor>[1]): void => copyTensor(from.gradient(name), into),
});

async function steepestKl(job: WorstJob, context: NormContext): Promise<WorstDirection> {
  const { arena: weights, config, settings, place, reference, signal } = job;
  const { seed, rays, directions } = settings.landscape;
  const step = directions.noise === "shared" ? "" : `|step-${place.step}`;
  const tokens = Math.max(1, sumOf(reference.rollouts.map((rollout) => rollout.tokens)));
  let epsilon = displaced * radiiOf(rays)[0];
  const examples = (sign: 1 | -1): Example[] =>
    reference.rollouts.map(({ ids, mask }) => ({ ids, mask, tokenWeight: -sign / (2 * epsilon * tokens) }));
  const arena = makeWeights(weights.backend, config, { gradients: true, dtype: weights.dtype });
  const curvatures: number[] = [];
  let current: ScaledDirection | null = null;
  try {
    current = await scaleDirection({ key: philoxKey(`direction|${seed}|worst-kl${step}`) }, rays.norm, context);
    for (let k = 0; k < products; k++) {
      for (const sign of [1, -1] as const) {
        for (const name of weights.names)
          moveIntoSlot(
            weights.value(name),
            { rows: arena.value(name), panels: null },
            wordsOf(name),
            stepOf(current.direction.get(name), sign * epsilon),
          );
        arena.valuesChanged();
        const model = { backend: weights.backend, config, weights: arena };
        await gradientOfLogProbs(model, examples(sign), { maxTokens: maxTokensOf(settings), signal, adds: sign < 0 });
      }
      const product: Direction = new Map(
        context.names.map((name) => [name, { kind: "explicit", tensor: arena.gradient(name), scale: 1 }]),
      );
      const curvature = sumOf((await innerProducts(weights, current.direction, product)).values());
      curvatures.push(curvature);
      if (curvature > 0) epsilon = Math.min(epsilon, Math.sqrt((2 * displacedKl) / curvature));
      if (k === products - 1) break;
      freeDirection(current.direction);
      current = null;
      current = await scaleDirection(gradientsOf(arena), rays.norm, context);
    }
    return { ...current, curvatures };
  } catch (thrown) {
    if (current !== null) freeDirection(current.direction);
    throw thrown;
  } finally {
    arena.free();
  }
}
