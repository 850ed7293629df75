// The checkpoint's own completions (the reference). They are sampled and scored once per checkpoint; J and KL of every grid point
// are then computed on these same tokens.
import {
  fromArray,
  head,
  klAndScore,
  type NumberArray,
  NumericalError,
  readTensors,
  scope,
  scopeAsync,
  type Tensor,
} from "../../engine/index.ts";
import {
  type DistinctAnswers,
  distinctAnswers,
  distinctStates,
  headWeight,
  type Model,
  microBatches,
  notNumbers,
  type Sequence,
} from "../../model/index.ts";
import { groupAdvantages, type Rollout } from "../../rl/index.ts";
import type { ByRollout, CellRecord, ReferenceSet } from "../files/cells.ts";

/**
 * Sequences that are scored in one forward pass, with θ's final hidden states and scores at their N assistant tokens, of
 * which M are distinct.
 */
export interface ReferencePart {
  sequences: readonly Sequence[];
  answers: DistinctAnswers;
  hidden: Float32Array; // [M, C]
  logSumExp: Float32Array; // [M]
  logProbs: Float32Array; // [M]
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
    const answers = distinctAnswers(model.config, sequences);
    const read = await scopeAsync(async () => {
      const states = distinctStates(model, answers);
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
    const [hidden, logSumExp, logProbs] = read.map(asF32);
    parts.push({ sequences, answers, hidden, logSumExp, logProbs });
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

export interface PointScoring extends Omit<ScoringSettings, "onPass"> {
  readonly clipLow: number;
  readonly clipHigh: number;
  /** The sums of a point's first prompts, which are not computed again. Default: none. */
  readonly known?: (point: number) => CellRecord["reference"] | null;
  /** Called after each forward pass with how many completions of each of these points it scored. */
  readonly onPass?: (completions: number, points: readonly number[]) => void;
}

/**
 * KL, k1, k3, J and entropy of a perturbed policy on the reference completions: sums over the assistant tokens of each.
 * With d = log q − log p of the sampled token: k1 = −d, k3 = e^d − 1 − d, ρ = e^d, objective min(ρA, clip(ρ, 1 ∓ clip)A).
 * @param plain      the checkpoint
 * @param perturbed  the same model with perturbed weights, and which of its points is scored
 */
export async function scorePoint(
  plain: Model,
  perturbed: Model,
  point: number,
  reference: Reference,
  settings: PointScoring,
): Promise<CellRecord["reference"]> {
  for await (const { scored } of scorePoints(plain, perturbed, [point], reference, settings)) return scored;
  throw new Error("scorePoint: no point was scored");
}

/** How many points one forward pass can score together. */
export function pointsPerPass({ parts }: Reference, maxTokens: number): number {
  const longest = parts.reduce((most, { answers }) => Math.max(most, answers.tokens.ids.length), 1);
  return Math.max(1, Math.floor(maxTokens / longest));
}

/**
 * `scorePoint` of several points, in their order: each is yielded once it is scored. One forward pass computes as many points
 * as its tokens allow, with the bits of a pass for each.
 */
export async function* scorePoints(
  plain: Model,
  perturbed: Model,
  points: readonly number[],
  reference: Reference,
  settings: PointScoring,
): AsyncGenerator<{ readonly point: number; readonly scored: CellRecord["reference"] }> {
  const most = pointsPerPass(reference, settings.maxTokens);
  const knownOf = (point: number): CellRecord["reference"] | null => settings.known?.(point) ?? null;
  for (let start = 0; start < points.length; ) {
    const prompts = knownOf(points[start])?.kl.length;
    let end = start + 1;
    while (end < points.length && end - start < most && knownOf(points[end])?.kl.length === prompts) end++;
    const own = points.slice(start, end);
    const sums = await sumsOf(plain, perturbed, own, reference, (prompts ?? 0) * reference.rolloutsPerPrompt, settings);
    for (const [i, point] of own.entries())
      yield { point, scored: cutSums(sums[i], reference.rolloutsPerPrompt, knownOf(point)) };
    start = end;
  }
}

/** Sums over the assistant tokens of a completion. */
export type Sums = Record<keyof CellRecord["reference"], number>;

export const emptySums = (): Sums => ({ kl: 0, k1: 0, k3: 0, objective: 0, entropy: 0 });

/** Adds a token. @param d  log q − log p of it */
export function addToken(
  sums: Sums,
  d: number,
  kl: number,
  entropy: number,
  advantage: number,
  { clipLow, clipHigh }: Pick<PointScoring, "clipLow" | "clipHigh">,
): void {
  const ratio = Math.exp(d);
  const clipped = Math.min(Math.max(ratio, 1 - clipLow), 1 + clipHigh);
  sums.kl += kl;
  sums.k1 -= d;
  sums.k3 += Math.expm1(d) - d;
  sums.objective += Math.min(ratio * advantage, clipped * advantage);
  sums.entropy += entropy;
}

/** A point's record from the sums of its completions. @param known  of its first prompts, which were scored before */
export function cutSums(
  sums: readonly Sums[],
  rolloutsPerPrompt: number,
  known: CellRecord["reference"] | null,
): CellRecord["reference"] {
  const cut = (name: keyof Sums): ByRollout => [
    ...(known?.[name] ?? []),
    ...cutInto(
      sums.map((one) => one[name]),
      rolloutsPerPrompt,
    ),
  ];
  return { kl: cut("kl"), k1: cut("k1"), k3: cut("k3"), objective: cut("objective"), entropy: cut("entropy") };
}

/** The sums of the completions from `first` on, for each of the points. All of them share every forward pass. */
async function sumsOf(
  plain: Model,
  perturbed: Model,
  points: readonly number[],
  reference: Reference,
  first: number,
  settings: PointScoring,
): Promise<Sums[][]> {
  const sums = points.map((): Sums[] => []);
  let sequence = first;
  const take = ({ part }: Scored, [logProbs, entropy, kl]: readonly NumberArray[]): void => {
    if (perturbed.weights.operands === "f16" && !kl.every(Number.isFinite))
      throw new NumericalError(notNumbers("sweep", perturbed.weights));
    settings.onPass?.(part.sequences.length, points);
    const distinct = part.answers.targets.length;
    for (const [i, own] of sums.entries()) {
      let token = 0;
      part.sequences.forEach(({ mask }, offset) => {
        const advantage = reference.advantages[sequence + offset];
        const one = emptySums();
        for (let t = 1; t < (mask?.length ?? 0); t++) {
          if (mask?.[t] !== 1) continue;
          const place = part.answers.places[token];
          const row = i * distinct + place;
          addToken(one, logProbs[row] - part.logProbs[place], kl[row], entropy[row], advantage, settings);
          token++;
        }
        own.push(one);
      });
    }
    sequence += part.sequences.length;
  };
  // The device has the next part before the host takes the one before.
  let before: Scored | null = null;
  for (const part of partsFrom(plain, reference, first)) {
    settings.signal?.throwIfAborted();
    plain.backend.phase?.("scoring a point");
    const scored: Scored = { part, reading: scorePart(plain, perturbed, points, part) };
    scored.reading.catch(() => {}); // it is heard below, unless the part before fails too
    if (before !== null) take(before, await before.reading);
    before = scored;
  }
  if (before !== null) take(before, await before.reading);
  return sums;
}

/** A part whose pass is under way. */
interface Scored {
  readonly part: ReferencePart;
  /** log-probabilities, entropies and KL. */
  readonly reading: Promise<NumberArray[]>;
}

/** Scores a part at the points, in one pass. While it is read, only the scores are kept on the device. */
function scorePart(
  plain: Model,
  perturbed: Model,
  points: readonly number[],
  part: ReferencePart,
): Promise<NumberArray[]> {
  const { backend } = plain;
  return scopeAsync(() => {
    const { logProbs, entropy, kl } = scope(() => {
      const { hidden, targets, rows, count } = distinctStates(perturbed, part.answers, points);
      const ofReference = (values: Float32Array, shape: readonly number[], label: string): Tensor =>
        fromArray(backend, repeated(values, points.length), shape, "f32", `reference ${label}`);
      return klAndScore({
        hiddenQ: hidden,
        headQ: headWeight(perturbed.config, perturbed.weights),
        rows,
        hiddenP: ofReference(part.hidden, [count, plain.config.hiddenSize], "hidden"),
        headP: headWeight(plain.config, plain.weights),
        logSumExpP: ofReference(part.logSumExp, [count], "log-sum-exp"),
        targets,
        temperature: 1,
      });
    });
    return readTensors([logProbs, entropy, kl]);
  });
}

/** The same numbers `copies` times, one after another. */
function repeated(values: Float32Array, copies: number): Float32Array {
  if (copies === 1) return values;
  const all = new Float32Array(copies * values.length);
  for (let copy = 0; copy < copies; copy++) all.set(values, copy * values.length);
  return all;
}

/** The parts without the first sequences. */
function* partsFrom({ config }: Model, { parts }: Reference, first: number): Iterable<ReferencePart> {
  let before = first;
  for (const part of parts) {
    const left = Math.min(before, part.sequences.length);
    before -= left;
    if (left === 0) yield part;
    else if (left < part.sequences.length) yield withoutFirst(config, part, left);
  }
}

function withoutFirst(config: Model["config"], part: ReferencePart, left: number): ReferencePart {
  const sequences = part.sequences.slice(left);
  const skipped = part.sequences.slice(0, left).reduce((sum, { mask }) => sum + tokensIn(mask), 0);
  const answers = distinctAnswers(config, sequences);
  /** For each distinct token of those left, its place among the distinct ones of the part. */
  const own = new Uint32Array(answers.targets.length);
  for (const [token, place] of answers.places.entries()) own[place] = part.answers.places[skipped + token];
  const rows = (values: Float32Array): Float32Array => {
    const width = values.length / part.answers.targets.length;
    const picked = new Float32Array(own.length * width);
    own.forEach((row, i) => void picked.set(values.subarray(row * width, (row + 1) * width), i * width));
    return picked;
  };
  return {
    sequences,
    answers,
    hidden: rows(part.hidden),
    logSumExp: rows(part.logSumExp),
    logProbs: rows(part.logProbs),
  };
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
