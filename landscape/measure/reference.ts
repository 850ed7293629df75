// The checkpoint's own completions (the reference). They are sampled and scored once per checkpoint; J and KL of every grid point
// are then computed on these same tokens.
import { fromArray, head, klAndScore, NumericalError, readTensors, scopeAsync } from "../../engine/index.ts";
import { answerStates, headWeight, type Model, microBatches, notNumbers, type Sequence } from "../../model/index.ts";
import { groupAdvantages, type Rollout } from "../../rl/index.ts";
import type { ByRollout, CellRecord, ReferenceSet } from "../files/cells.ts";

/** Sequences that are scored in one forward pass, with θ's final hidden states and scores at their assistant tokens. */
interface ReferencePart {
  sequences: readonly Sequence[];
  hidden: Float32Array; // [N, C]
  logSumExp: Float32Array; // [N]
  logProbs: Float32Array; // [N]
}

export interface Reference {
  readonly set: ReferenceSet;
  readonly rollouts: readonly Rollout[];
  readonly prompts: number;
  readonly rolloutsPerPrompt: number;
  readonly advantages: readonly number[];
  readonly parts: readonly ReferencePart[];
}

export interface ScoringSettings {
  /** Per forward pass. */
  maxTokens: number;
  /** Checked between two forward passes. */
  signal?: AbortSignal;
  /** Called after each forward pass with how many completions it scored. */
  onPass?: (completions: number) => void;
}

/** @param rollouts  prompts × rolloutsPerPrompt of them; those of one prompt are adjacent */
export async function scoreReference(
  model: Model,
  rollouts: readonly Rollout[],
  rolloutsPerPrompt: number,
  settings: ScoringSettings & { readonly advantageEpsilon?: number },
): Promise<Reference> {
  const prompts = rollouts.length / rolloutsPerPrompt;
  const rewards = cutInto(
    rollouts.map(({ reward }) => reward),
    rolloutsPerPrompt,
  );
  const advantage = rewards.map((group) => [...groupAdvantages("grpo", group, settings.advantageEpsilon)]);
  const parts: ReferencePart[] = [];
  for (const sequences of microBatches(rollouts, settings.maxTokens)) {
    settings.signal?.throwIfAborted();
    model.backend.phase?.("scoring the reference");
    const [hidden, logSumExp, logProbs] = await scopeAsync(async () => {
      const states = answerStates(model, sequences);
      const scored = head(
        states.hidden,
        headWeight(model.config, model.weights),
        states.targets,
        { temperature: 1 },
        null,
      );
      return readTensors([states.hidden, scored.logSumExp, scored.logProbs]);
    });
    settings.onPass?.(sequences.length);
    parts.push({ sequences, hidden: asF32(hidden), logSumExp: asF32(logSumExp), logProbs: asF32(logProbs) });
  }
  return {
    set: {
      tokens: cutInto(
        rollouts.map(({ tokens }) => tokens),
        rolloutsPerPrompt,
      ),
      reward: rewards,
      advantage,
    },
    rollouts,
    prompts,
    rolloutsPerPrompt,
    advantages: advantage.flat(),
    parts,
  };
}

/**
 * KL, k1, k3, J and entropy of a perturbed policy on the reference completions: sums over the assistant tokens of each.
 * With d = log q − log p of the sampled token: k1 = −d, k3 = e^d − 1 − d, ρ = e^d, objective min(ρA, clip(ρ, 1 ∓ clip)A).
 * @param plain      the checkpoint
 * @param perturbed  the same model with perturbed weights, and which of its points is scored
 * @param settings   `known`: the sums of the first prompts, which are not computed again
 */
export async function scorePoint(
  plain: Model,
  perturbed: Model,
  point: number,
  reference: Reference,
  settings: ScoringSettings & { clipLow: number; clipHigh: number; known?: CellRecord["reference"] | null },
): Promise<CellRecord["reference"]> {
  const { known = null } = settings;
  const first = (known?.kl.length ?? 0) * reference.rolloutsPerPrompt;
  const sums = {
    kl: [] as number[],
    k1: [] as number[],
    k3: [] as number[],
    objective: [] as number[],
    entropy: [] as number[],
  };
  let sequence = first;
  for (const part of partsFrom(reference, first)) {
    settings.signal?.throwIfAborted();
    plain.backend.phase?.("scoring a point");
    const [logProbs, entropy, kl] = await scopeAsync(async () => {
      const { hidden, targets, rows, count } = answerStates(perturbed, part.sequences, point);
      const scored = klAndScore({
        hiddenQ: hidden,
        headQ: headWeight(perturbed.config, perturbed.weights),
        rows,
        hiddenP: fromArray(plain.backend, part.hidden, [count, plain.config.hiddenSize], "f32", "reference hidden"),
        headP: headWeight(plain.config, plain.weights),
        logSumExpP: fromArray(plain.backend, part.logSumExp, [count], "f32", "reference log-sum-exp"),
        targets,
        temperature: 1,
      });
      return readTensors([scored.logProbs, scored.entropy, scored.kl]);
    });
    if (perturbed.weights.operands === "f16" && !kl.every(Number.isFinite))
      throw new NumericalError(notNumbers("sweep", perturbed.weights));
    settings.onPass?.(part.sequences.length);
    let token = 0;
    for (const { mask } of part.sequences) {
      const advantage = reference.advantages[sequence++];
      const one = { kl: 0, k1: 0, k3: 0, objective: 0, entropy: 0 };
      for (let t = 1; t < (mask?.length ?? 0); t++) {
        if (mask?.[t] !== 1) continue;
        const d = logProbs[token] - part.logProbs[token];
        const ratio = Math.exp(d);
        const clipped = Math.min(Math.max(ratio, 1 - settings.clipLow), 1 + settings.clipHigh);
        one.kl += kl[token];
        one.k1 -= d;
        one.k3 += Math.expm1(d) - d;
        one.objective += Math.min(ratio * advantage, clipped * advantage);
        one.entropy += entropy[token];
        token++;
      }
      for (const name of ["kl", "k1", "k3", "objective", "entropy"] as const) sums[name].push(one[name]);
    }
  }
  const cut = (name: keyof typeof sums): ByRollout => [
    ...(known?.[name] ?? []),
    ...cutInto(sums[name], reference.rolloutsPerPrompt),
  ];
  return { kl: cut("kl"), k1: cut("k1"), k3: cut("k3"), objective: cut("objective"), entropy: cut("entropy") };
}

/** The parts without the first sequences. */
function* partsFrom({ parts }: Reference, first: number): Iterable<ReferencePart> {
  let before = first;
  for (const { sequences, hidden, logSumExp, logProbs } of parts) {
    const left = Math.min(before, sequences.length);
    before -= left;
    if (left === sequences.length) continue;
    const rows = sequences.slice(0, left).reduce((sum, { mask }) => sum + tokensIn(mask), 0);
    yield {
      sequences: sequences.slice(left),
      hidden: hidden.subarray((rows * hidden.length) / logProbs.length),
      logSumExp: logSumExp.subarray(rows),
      logProbs: logProbs.subarray(rows),
    };
  }
}

/** Assistant tokens that are scored: position 0 has no logits before it. */
function tokensIn(mask: Sequence["mask"]): number {
  let count = 0;
  for (let t = 1; t < (mask?.length ?? 0); t++) if (mask?.[t] === 1) count++;
  return count;
}

/** Splits a list into lists of `size`, for example rollouts by prompt. */
export function cutInto<T>(values: readonly T[], size: number): T[][] {
  return Array.from({ length: values.length / size }, (_, k) => values.slice(k * size, (k + 1) * size));
}

function asF32(values: ArrayLike<number>): Float32Array {
  return values instanceof Float32Array ? values : Float32Array.from(values);
}
