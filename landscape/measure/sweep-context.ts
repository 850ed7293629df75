import type { OnDamage, Phase, Values } from "../../engine/host/index.ts";
import type { Backend, ParameterArena } from "../../engine/index.ts";
import type { Chat, LanguageModel, Model } from "../../model/index.ts";
import {
  type Environment,
  type Episode,
  episodeList,
  limitsOf,
  type RolloutSettings,
  rollOut,
} from "../../rl/index.ts";
import type { SliceFacts } from "../files/slice-facts.ts";
import type { studySettings } from "../settings.ts";
import type { DirectionPlace } from "./directions/kinds.ts";
import { type Reference, scoreReference } from "./reference.ts";
import { RoundedWeights } from "./rounded-weights.ts";

type Settings = Values<(typeof studySettings)["tree"]>;

export interface CheckpointModel extends Model {
  readonly backend: Backend;
  readonly config: LanguageModel;
  readonly weights: ParameterArena;
}

export interface SweepContext {
  model: CheckpointModel;
  chat: Chat;
  environment: Environment;
  settings: Settings;
  /** Where directions that are made from checkpoints find them. */
  place: DirectionPlace;
  /** Checked between two forward passes. */
  signal: AbortSignal;
  /** The prompts, if they are not the first episodes of landscape.episodeSeed. */
  episodes?: readonly Episode[];
  /** The number of the noise seed; 0, the default, for all but the draws of the noise floor. */
  noise?: number;
  /** Shows the user a line: what was cut off a damaged file, what a stop keeps. */
  say: OnDamage;
  /** Longest delay until a finished rollout is on disk, milliseconds. Default 10 s. */
  keepEveryMs?: number;
  onTiming?: (record: SweepTiming) => void;
  /** Called once per slice, before its first grid point. */
  onDirections?: (facts: SliceFacts) => void;
}

/** How long a part of a sweep took. */
export interface SweepTiming {
  readonly phase: string;
  readonly seconds: number;
  /** Of points and of rollouts: assistant tokens that were drawn; how many of them a draft had proposed, */
  readonly tokens?: number;
  readonly drafted?: number;
  /** and how many needed no forward pass of their own. */
  readonly spared?: number;
  /** Of points: how many ended. */
  readonly points?: number;
  /** Of points and of scoring: completions of the checkpoint that were scored at points. */
  readonly completions?: number;
  /** Of points and of rollouts: mean share of the generation batch's places that were in use. */
  readonly occupancy?: number;
}

/** The episodes of the fixed prompt set: both sets of completions use the first episodes of one list. */
export function promptSet({ environment, settings, episodes }: SweepContext): readonly Episode[] {
  if (episodes !== undefined) return episodes;
  const { reference, rollouts, episodeSeed } = settings.landscape;
  return episodeList(environment, episodeSeed).distinct(Math.max(reference.prompts, rollouts.prompts));
}

export function rolloutSettings({ settings, signal, noise = 0 }: SweepContext): RolloutSettings {
  return {
    maxNewTokens: settings.landscape.maxNewTokens,
    temperature: 1,
    seed: settings.landscape.seed,
    purpose: "landscape",
    step: noise,
    turn2Template: settings.environment.turn2Template,
    limits: limitsOf(settings.environment),
    maxRows: settings.batch.rows,
    maxTokens: settings.batch.tokens,
    signal,
  };
}

/**
 * Runs `body` with the checkpoint as the sweep's precision reads it: as it is in f32, its matrices rounded in f16. So the
 * grid's origin is this model bit for bit.
 */
export async function withPolicy<T>(
  { model, settings }: SweepContext,
  body: (policy: Model) => Promise<T>,
): Promise<T> {
  if (settings.landscape.precision === "f32") return body(model);
  const weights = new RoundedWeights(model.weights);
  try {
    return await body({ ...model, weights });
  } finally {
    weights.free();
  }
}

/** Samples and scores the checkpoint's reference completions, which all slices share. @param phase  counts them */
export async function prepareReference(context: SweepContext, phase: Phase): Promise<Reference> {
  const announceStop = (): void =>
    context.say(
      "The sweep stops after the forward pass under way. Kept: all measured grid points. The checkpoint's own completions are " +
        "sampled again when it continues.",
    );
  context.signal.addEventListener("abort", announceStop);
  try {
    return await withPolicy(context, (policy) => drawReference(context, policy, phase));
  } finally {
    context.signal.removeEventListener("abort", announceStop);
  }
}

async function drawReference(context: SweepContext, policy: Model, phase: Phase): Promise<Reference> {
  const { prompts, rollouts } = context.settings.landscape.reference;
  const requests = promptSet(context)
    .slice(0, prompts)
    .flatMap((episode) => Array.from({ length: rollouts }, (_, rollout) => ({ episode, rollout })));
  let tokens = 0;
  const drawn = await rollOut(policy, context.chat, requests, {
    ...rolloutSettings(context),
    onPass: ({ sampled, finished }) => {
      tokens += sampled;
      phase.advance(finished, `${tokens} tokens`);
    },
  });
  return scoreReference(policy, drawn, rollouts, {
    maxTokens: context.settings.batch.tokens,
    advantageEpsilon: context.settings.train.advantageEpsilon,
    signal: context.signal,
    onPass: () => phase.advance(0, "scoring"),
  });
}
