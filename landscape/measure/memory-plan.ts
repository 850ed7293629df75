// The memory that a sweep needs, computed before it starts. Scoring the reference, the rollouts of several grid points
// and the scoring of one point run on a planning backend, which counts allocations and makes none (model/plan.ts).
import { formatBytes } from "../../engine/host/index.ts";
import type { Backend } from "../../engine/index.ts";
import {
  type Chat,
  type Draft,
  expectMemory,
  halve,
  type LanguageModel,
  type MemoryLimit,
  type MemoryPlan,
  makeWeights,
  memoryLimit,
  planMemory,
  rehearseGeneration,
} from "../../model/index.ts";
import {
  type Environment,
  type ExpectedConversation,
  episodeList,
  expectTemplate,
  longestConversation,
  type MemoryCheck,
  type Rollout,
} from "../../rl/index.ts";
import { rayPoints } from "../files/ray-points.ts";
import { workOrder } from "../grid.ts";
import { worstRaysOf } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import { allocateDirection } from "./directions/direction.ts";
import { worstDirection } from "./directions/worst-case.ts";
import { makeDirections, stepsTo } from "./directions.ts";
import { freshSettings, freshUses } from "./fresh-prompts.ts";
import { expectHostMemory, hostMemoryOf, type SurveyedSets } from "./host-memory.ts";
import { pointWeights } from "./perturbed-weights.ts";
import { boundsAtPoints, type PromptSurvey, type SurveyedPrompt, surveyPrompts, textSlots } from "./prompt-survey.ts";
import { ReferenceReader } from "./reading.ts";
import { scorePoint, scorePoints, scoreReference } from "./reference.ts";
import { RoundedWeights } from "./rounded-weights.ts";

export interface SweepJob {
  readonly config: LanguageModel;
  readonly chat: Chat;
  readonly environment: Environment;
  readonly settings: StudySettings;
}

/**
 * Refuses a sweep that cannot fit.
 * @param compiles  whether the kernels are compiled now if the sweep fits; false well before the sweep
 * @throws OutOfMemoryError with the numbers, and the settings that would make it fit
 * @throws the signal's reason once it is aborted
 */
export async function expectSweepMemory(
  backend: Backend,
  job: SweepJob,
  signal: AbortSignal,
  compiles = true,
): Promise<SweepPlan> {
  const check = { limit: memoryLimit(backend), compiles, refusesHost: true };
  const { settings } = job;
  const fresh =
    freshUses(settings).length === 0
      ? null
      : await sweepMemory(backend, { ...job, settings: freshSettings(settings) }, signal, {
          ...check,
          compiles: false,
        });
  const plan = await sweepMemory(backend, job, signal, check);
  // One choice for both.
  const isLess =
    fresh !== null &&
    plan.weights === "slots" &&
    (fresh.weights === "in-tile" || fresh.pointsAtOnce < plan.pointsAtOnce);
  return isLess ? { ...plan, weights: fresh.weights, pointsAtOnce: fresh.pointsAtOnce, why: fresh.why } : plan;
}

/** @throws OutOfMemoryError when the study's measurements do not fit Node's own memory */
export async function expectHostMemoryOf(job: SweepJob, signal: AbortSignal): Promise<void> {
  const { surveyBoth } = await survey(job, signal);
  expectHostMemory(job.settings, await surveyBoth(sampledPrompts), job.config.hiddenSize);
}

/** The prompts of a sweep. `surveyBoth` looks at the first ones of each set, at most as many as it is given. */
async function survey(
  job: SweepJob,
  signal: AbortSignal,
): Promise<{ list: ReturnType<typeof episodeList>; surveyBoth(most: number): Promise<SurveyedSets> }> {
  const { landscape, batch } = job.settings;
  const { reference, rollouts } = landscape;
  const list = episodeList(job.environment, landscape.episodeSeed);
  await list.makeDistinct(Math.max(reference.prompts, rollouts.prompts), signal);
  const surveyOf = (prompts: number): Promise<PromptSurvey> =>
    surveyPrompts(job.chat, list.distinct(prompts), {
      maxNewTokens: landscape.maxNewTokens,
      maxRows: batch.rows,
      maxTokens: batch.tokens,
      signal,
    });
  return {
    list,
    surveyBoth: async (most) => ({
      reference: await surveyOf(Math.min(most, reference.prompts)),
      rollouts: await surveyOf(Math.min(most, rollouts.prompts)),
    }),
  };
}

export interface SweepPlan extends MemoryPlan {
  /** Node's own memory by part, bytes. */
  readonly heap: ReadonlyMap<string, number>;
  /** Where the weights of grid points are, and of how many at once (`landscape.weights`). */
  readonly weights: "slots" | "in-tile";
  readonly pointsAtOnce: number;
  /** The choice and its reason, in a sentence. */
  readonly why: string;
}

interface SweepCheck extends Required<MemoryCheck> {
  /** Whether a sweep that does not fit Node's own memory is refused. */
  readonly refusesHost: boolean;
}

/** As `expectSweepMemory`; what is refused, and by which limit, is the caller's choice. */
export async function sweepMemory(
  backend: Backend,
  job: SweepJob,
  signal: AbortSignal,
  { limit, compiles, refusesHost }: SweepCheck,
): Promise<SweepPlan> {
  const { landscape, batch, environment } = job.settings;
  const { reference, rollouts } = landscape;
  const { list, surveyBoth } = await survey(job, signal);
  if (refusesHost) expectHostMemory(job.settings, await surveyBoth(sampledPrompts), job.config.hiddenSize);
  expectTemplate(job.chat, list.distinct(Math.max(reference.prompts, rollouts.prompts)), environment.turn2Template);
  const prompts = await surveyBoth(Number.POSITIVE_INFINITY);
  const most = Math.min(landscape.pointsAtOnce, Math.max(landscape.points ** 2, rayPoints(landscape).length));
  const sizes = { pointsAtOnce: most, rows: batch.rows, tokens: batch.tokens, refills: landscape.refill === "on" };
  const plans = new Map<string, Promise<MemoryPlan>>();
  const planOf = (one: SweepSizes): Promise<MemoryPlan> => {
    const key = JSON.stringify(one);
    const made = plans.get(key) ?? planSweep(backend, job, prompts, one, signal);
    plans.set(key, made);
    return made;
  };
  const chosen = await chooseWeights(landscape.weights, sizes, planOf, limit);
  const plan = await expectMemory(
    "The sweep",
    chosen.sizes,
    planOf,
    [
      {
        lower: (lowered) => (lowered.refills ? { ...lowered, refills: false } : null),
        flag: () => "--landscape.refill off",
      },
      halve("--batch.rows", "rows"),
      halve("--batch.tokens", "tokens"),
      ...(chosen.sizes.weights === "slots"
        ? [halve<"pointsAtOnce", SweepSizes>("--landscape.pointsAtOnce", "pointsAtOnce")]
        : []),
    ],
    limit,
    compiles,
  );
  const { weights, pointsAtOnce } = chosen.sizes;
  const heap = hostMemoryOf(job.settings, prompts, job.config.hiddenSize).heap;
  return { ...plan, heap, weights, pointsAtOnce, why: chosen.why };
}

interface SweepSizes {
  readonly weights: "slots" | "in-tile";
  readonly pointsAtOnce: number;
  readonly rows: number;
  readonly tokens: number;
  /** Whether a point is scored while the cache of the others is there (`landscape.refill`). */
  readonly refills: boolean;
}

/** As many slots as fit, halved from those asked for; without any where not even one fits. */
async function chooseWeights(
  asked: StudySettings["landscape"]["weights"],
  sizes: Omit<SweepSizes, "weights">,
  planOf: (sizes: SweepSizes) => Promise<MemoryPlan>,
  limit: MemoryLimit | null,
): Promise<{ sizes: SweepSizes; why: string }> {
  const { pointsAtOnce: most } = sizes;
  if (asked !== "auto")
    return {
      sizes: { ...sizes, weights: asked },
      why: `Weights of grid points: ${asked === "slots" ? slotsText(most) : "in-tile"}, as asked for (--landscape.weights).`,
    };
  if (limit === null)
    return {
      sizes: { ...sizes, weights: "slots" },
      why: `Weights of grid points: ${slotsText(most)}. How much memory this adapter has is not known (--landscape.weights in-tile needs no slots).`,
    };
  let totalBytes = 0;
  const text = (): string => `${formatBytes(totalBytes)} of ${formatBytes(limit.bytes)}`;
  for (let pointsAtOnce = most; pointsAtOnce >= 1; pointsAtOnce = Math.floor(pointsAtOnce / 2)) {
    const one: SweepSizes = { ...sizes, weights: "slots", pointsAtOnce };
    totalBytes = (await planOf(one)).totalBytes;
    const reason = pointsAtOnce < most ? `, because ${most} do not fit (--landscape.pointsAtOnce)` : "";
    if (totalBytes <= limit.bytes)
      return { sizes: one, why: `Weights of grid points: ${slotsText(pointsAtOnce)} (${text()})${reason}.` };
  }
  // Every pass makes the weights of each of its points: rows of one point share them.
  const one: SweepSizes = { ...sizes, weights: "in-tile", pointsAtOnce: 1 };
  totalBytes = (await planOf(one)).totalBytes;
  return {
    sizes: one,
    why: `Weights of grid points: in-tile (${text()}), because not even one slot fits. This takes much longer than slots.`,
  };
}

function slotsText(count: number): string {
  return count === 1 ? "1 slot" : `${count} slots`;
}

/** Whether the plan chose less than slots for all points that are wanted at once: the user is told. */
export function hasLess({ landscape }: StudySettings, { weights, pointsAtOnce }: SweepPlan): boolean {
  const wanted = Math.min(landscape.pointsAtOnce, Math.max(landscape.points ** 2, rayPoints(landscape).length));
  return landscape.weights === "auto" && (weights === "in-tile" || pointsAtOnce < wanted);
}

/** The settings with what the plan chose for `landscape.weights`, and how many points are in memory at once. */
export function settingsThatFit(settings: StudySettings, { weights, pointsAtOnce }: SweepPlan): StudySettings {
  return { ...settings, landscape: { ...settings.landscape, weights, pointsAtOnce } };
}

/** Enough prompts for their mean length, which decides whether host memory suffices. */
const sampledPrompts = 512;

/** A sweep's memory for these numbers of points held at once, and of conversations and tokens per forward pass. */
function planSweep(
  backend: Backend,
  { config, settings }: SweepJob,
  prompts: SurveyedSets,
  { weights: kind, pointsAtOnce, rows, tokens, refills }: SweepSizes,
  signal: AbortSignal,
): Promise<MemoryPlan> {
  signal.throwIfAborted();
  const { landscape, train } = settings;
  const { reference, rollouts } = landscape;
  const generation = { maxRows: rows, maxTokens: tokens, temperature: 1 };
  // As long as drafts can be, one of each length. They are accepted: a planning backend draws token 1 everywhere.
  const drafts = new Map<number, Draft>();
  const draftFor = ({ expectedTokens }: SurveyedPrompt): Draft | undefined => {
    if (landscape.drafts === "off") return undefined;
    const length = Math.min(expectedTokens, landscape.maxNewTokens);
    let draft = drafts.get(length);
    if (draft === undefined) {
      const ids = new Array<number>(length).fill(1);
      draft = (turn, answer) => (turn === 0 && answer.length === 0 ? ids : null);
      drafts.set(length, draft);
    }
    return draft;
  };
  // No more rows are under way than `rows`, and the longest prompts come first.
  const longestOf = ({ longest }: PromptSurvey, perPrompt: number): SurveyedPrompt[] =>
    longest.flatMap((prompt) => new Array<SurveyedPrompt>(perPrompt).fill(prompt)).slice(0, rows);
  return planMemory(
    backend,
    async (planning) => {
      const isHalf = landscape.precision === "f16";
      const arena = makeWeights(planning, config, { forwardCopies: !isHalf });
      const plain = { backend: planning, config, weights: isHalf ? new RoundedWeights(arena) : arena };
      await rehearseGeneration(
        plain,
        longestOf(prompts.reference, reference.rollouts).map((one) => ({ policy: 0, ...one })),
        { ...generation, bounds: boundsAtPoints(prompts.reference, reference.rollouts, 1, rows) },
      );
      const drawn = longestRollouts(
        prompts.reference.first.flatMap((one) => new Array<SurveyedPrompt>(reference.rollouts).fill(one)),
        { maxTokens: tokens, maxNewTokens: landscape.maxNewTokens, vocabSize: config.vocabSize },
      );
      const scored = await scoreReference(plain, drawn, drawn.length, { maxTokens: tokens });
      const directions = await makeDirections({
        ...{ arena, config, settings, slice: 0, reference: scored, signal, isRehearsal: true },
        place: { step: 0, trajectory: [], state: "", folderOf: () => "" },
        say: () => {},
      });
      if (landscape.pairs) {
        const other = makeWeights(planning, config, { forwardCopies: !isHalf });
        const their = { backend: planning, config, weights: isHalf ? new RoundedWeights(other) : other };
        await scorePoint(plain, their, 0, scored, {
          maxTokens: tokens,
          clipLow: train.clipLow,
          clipHigh: train.clipHigh,
        });
        if (their.weights instanceof RoundedWeights) their.weights.free();
        other.free();
      }
      const weights = pointWeights(arena, pointsAtOnce, { ...landscape, weights: kind });
      const points = Array.from({ length: pointsAtOnce }, (_, point) => point);
      if (landscape.line.stepsAhead.length > 0) for (const name of arena.names) allocateDirection(arena, name);
      for (const kind of worstRaysOf(landscape.rays)) {
        const scope = { ...{ config, settings, arena, reference: scored, signal }, isRehearsal: true, say: () => {} };
        await worstDirection(kind, { ...scope, place: { step: 0, trajectory: [], state: "", folderOf: () => "" } });
      }
      // Away from the centre, where every direction takes part.
      const cells = workOrder(landscape);
      const cell = cells.at(-1);
      if (cell === undefined) throw new Error("planSweep: the grid has no cells");
      weights.placeAlong(points.map(() => (name) => stepsTo(cell, directions, name)));
      const perturbed = { backend: planning, config, weights };
      const { clipLow, clipHigh } = train;
      const fresh = longestOf(prompts.rollouts, rollouts.rollouts);
      const rehearseBatch = async (own: readonly number[]): Promise<void> => {
        const scoring = { maxTokens: tokens, clipLow, clipHigh };
        const bounds = boundsAtPoints(prompts.rollouts, rollouts.rollouts, own.length, rows);
        const dialogues = own.flatMap((point) => fresh.map((one) => ({ policy: point, ...one, draft: draftFor(one) })));
        if (!refills) {
          await rehearseGeneration(perturbed, dialogues, { ...generation, bounds });
          for await (const _ of scorePoints(plain, perturbed, own, scored, scoring));
          return;
        }
        // With refilled slots completions are read beside the rollouts.
        const reader = new ReferenceReader(plain, perturbed, scored, scoring);
        const texts = own.flatMap((point) => {
          const { textsOf } = reader.begin(point);
          return Array.from({ length: scored.prompts }, (_, prompt) => [...textsOf(prompt)]).flat();
        });
        await rehearseGeneration(
          perturbed,
          dialogues,
          {
            ...{
              ...generation,
              bounds: { ...bounds, texts: textSlots(prompts.reference, reference.rollouts, tokens) },
            },
            onStates: reader.onStates,
          },
          texts,
        );
      };
      await rehearseBatch(points);
      // The last batch may have fewer points. Its buffers have other sizes, and the larger ones are kept.
      const left = refills ? 0 : cells.length % pointsAtOnce;
      if (left > 0) await rehearseBatch(points.slice(0, left));
      // The policy of another checkpoint is loaded beside this one (kl-from.ts).
      if (landscape.klFrom.length > 0) makeWeights(planning, config, { forwardCopies: !isHalf });
    },
    hostMemoryOf(settings, prompts, config.hiddenSize).outside,
  );
}

/** Conversations with answers of the maximum length, as many as one forward pass has. */
function longestRollouts(
  conversations: readonly ExpectedConversation[],
  { maxTokens, maxNewTokens, vocabSize }: { maxTokens: number; maxNewTokens: number; vocabSize: number },
): Rollout[] {
  const found: Rollout[] = [];
  let total = 0;
  for (const one of conversations) {
    total += one.prompt.length + one.expectedTokens;
    if (found.length > 0 && total > maxTokens) break;
    const { ids, mask, answerTokens } = longestConversation(one, maxNewTokens, found.length % vocabSize);
    found.push({
      ...{
        episode: 0,
        rollout: 0,
        point: 0,
        messages: [],
        entropySum: 0,
        isTruncated: true,
        isLastTruncated: true,
        reward: 0,
        failure: null,
      },
      ...{ ids, mask },
      logProbs: new Array<number>(ids.length).fill(0),
      tokens: answerTokens,
      parts: { turnScores: [], formatFailed: [] },
    });
  }
  return found;
}
