// The memory that a sweep needs, computed before it starts. Scoring the reference, the rollouts of several grid points
// and the scoring of one point run on a planning backend, which counts allocations and makes none (model/plan.ts).
import type { Backend } from "../../engine/index.ts";
import {
  type Chat,
  expectMemory,
  halve,
  type LanguageModel,
  type MemoryPlan,
  makeWeights,
  memoryLimit,
  planMemory,
  rehearseGeneration,
} from "../../model/index.ts";
import { dialoguesOf, type Environment, EpisodeList, type Rollout } from "../../rl/index.ts";
import type { StudySettings } from "../files/run-folder.ts";
import { workOrder } from "../grid.ts";
import type { Slice } from "./directions.ts";
import { PerturbedWeights } from "./perturbed-weights.ts";
import { scorePoint, scoreReference } from "./reference.ts";

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
 */
export async function expectSweepMemory(backend: Backend, job: SweepJob, compiles = true): Promise<MemoryPlan> {
  const { landscape, batch } = job.settings;
  return expectMemory(
    "The sweep",
    { pointsAtOnce: Math.min(landscape.pointsAtOnce, landscape.points ** 2), rows: batch.rows, tokens: batch.tokens },
    (sizes) => planSweep(backend, job, sizes),
    [
      halve("--batch.rows", "rows"),
      halve("--batch.tokens", "tokens"),
      halve("--landscape.pointsAtOnce", "pointsAtOnce"),
    ],
    memoryLimit(backend),
    compiles,
  );
}

/** A sweep's memory for these numbers of points held at once, and of conversations and tokens per forward pass. */
export function planSweep(
  backend: Backend,
  { config, chat, environment, settings }: SweepJob,
  { pointsAtOnce, rows, tokens }: { pointsAtOnce: number; rows: number; tokens: number },
): Promise<MemoryPlan> {
  const { landscape, train } = settings;
  const { reference, rollouts } = landscape;
  const generation = { maxRows: rows, maxTokens: tokens, temperature: 1 };
  const episodes = new EpisodeList(environment, landscape.episodeSeed).distinct(
    Math.max(reference.prompts, rollouts.prompts),
  );
  const dialogues = (prompts: number, perPrompt: number) =>
    dialoguesOf(
      chat,
      episodes.slice(0, prompts).map((episode) => ({ episode, rollout: 0 })),
      { maxNewTokens: landscape.maxNewTokens, turn2Template: settings.environment.turn2Template },
    ).flatMap((dialogue) => Array.from({ length: perPrompt }, () => dialogue));
  const referenceDialogues = dialogues(reference.prompts, reference.rollouts);
  const freshDialogues = dialogues(rollouts.prompts, rollouts.rollouts);
  // The reference keeps θ's final states of every token in the host's memory.
  const scoredTokens = referenceDialogues.reduce((sum, { expectedTokens }) => sum + expectedTokens, 0);
  return planMemory(
    backend,
    async (planning) => {
      const arena = makeWeights(planning, config);
      const plain = { backend: planning, config, weights: arena };
      await rehearseGeneration(plain, referenceDialogues, generation);
      const drawn = longestRollouts(referenceDialogues, tokens);
      const scored = await scoreReference(plain, drawn, drawn.length, { maxTokens: tokens });
      const weights = new PerturbedWeights(arena, pointsAtOnce);
      const points = Array.from({ length: pointsAtOnce }, (_, point) => point);
      weights.place(workOrder(landscape).slice(0, pointsAtOnce), unscaled(arena.names));
      const perturbed = { backend: planning, config, weights };
      await rehearseGeneration(
        perturbed,
        points.flatMap((point) =>
          freshDialogues.map(({ prompt, noise, expectedTokens }) => ({ policy: point, prompt, noise, expectedTokens })),
        ),
        generation,
      );
      const { clipLow, clipHigh } = train;
      await scorePoint(plain, perturbed, 0, scored, { maxTokens: tokens, clipLow, clipHigh });
    },
    4 * scoredTokens * config.hiddenSize,
  );
}

/** Conversations with answers of the maximum length, as many as one forward pass has. */
function longestRollouts(
  dialogues: readonly { readonly prompt: readonly number[]; readonly expectedTokens: number }[],
  maxTokens: number,
): Rollout[] {
  const found: Rollout[] = [];
  let total = 0;
  for (const { prompt, expectedTokens } of dialogues) {
    const length = prompt.length + expectedTokens;
    total += length;
    if (found.length > 0 && total > maxTokens) break;
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
      ids: new Array<number>(length).fill(0),
      mask: Array.from({ length }, (_, t) => (t < prompt.length ? 0 : 1)),
      logProbs: new Array<number>(length).fill(0),
      tokens: expectedTokens,
      parts: { turnScores: [], formatFailed: [] },
    });
  }
  return found;
}

/** Directions that perturb nothing, for the rehearsal. */
function unscaled(names: readonly string[]): Slice {
  const scales = new Map(names.map((name) => [name, { delta: 0, eta: 0 }]));
  return { seed: 0, slice: 0, deltaKey: [0, 0], etaKey: [0, 0], scales, digest: "" };
}
