// How much memory a job needs, by part, before it starts. The job itself is rehearsed on a planning backend, which allocates
// nothing (engine/backends/planning.ts), so the plan always agrees with the code.
//
// A job that does not fit is refused, with the numbers and a setting that would make it fit. WebGPU does not report how much
// memory a GPU has; then nothing is refused here. A software driver uses the machine's memory, which is known.
import { freemem } from "node:os";
import { formatBytes } from "../engine/host/index.ts";
import { type Backend, type MemoryPurpose, OutOfMemoryError, PlanningBackend, purposeOf } from "../engine/index.ts";
import { type Dialogue, type GenerateSettings, generate, type Model } from "./generation.ts";
import type { LanguageModel } from "./language-model.ts";
import { microBatches, type Sequence, score } from "./scoring.ts";
import { makeWeights, piecesAtOnceBytes } from "./weights.ts";

export type MemoryPart = MemoryPurpose | "staging" | "host";

export interface MemoryPlan {
  /**
   * Bytes of each part when the device holds most: its own parts, which sum to `deviceBytes`; "spare" is what was released
   * and is kept for reuse; "staging", what passes between host and device at a time, and "host" come on top.
   */
  readonly parts: ReadonlyMap<MemoryPart, number>;
  /** What the backend's `peakBytes` will be. */
  readonly deviceBytes: number;
  readonly totalBytes: number;
  /** Starts the compilation of all kernels that the job runs, side by side, on the backend that it is meant for. */
  prepare(): Promise<void>;
}

/**
 * What a job takes that `rehearsal` runs on the backend it is given.
 * @param hostBytes  what the job keeps in the host's memory, where that is worth counting
 */
export async function planMemory(
  backend: Backend,
  rehearsal: (planning: Backend) => Promise<void>,
  hostBytes = 0,
): Promise<MemoryPlan> {
  const planning = new PlanningBackend(backend);
  await rehearsal(planning);
  const parts = new Map<MemoryPart, number>();
  for (const [label, bytes] of planning.bytesAtPeak()) {
    const part = purposeOf(label);
    parts.set(part, (parts.get(part) ?? 0) + bytes);
  }
  parts.set("staging", Math.max(planning.stagingBytes, piecesAtOnceBytes));
  if (hostBytes > 0) parts.set("host", hostBytes);
  return {
    parts,
    deviceBytes: planning.statistics().peakBytes,
    totalBytes: [...parts.values()].reduce((sum, bytes) => sum + bytes, 0),
    prepare: async () => backend.prepare?.(planning.forms),
  };
}

/** A model without content, to rehearse with. */
export function emptyModel(backend: Backend, config: LanguageModel): Model {
  return { backend, config, weights: makeWeights(backend, config) };
}

/** Generation up to where every row has passed its prompt: by then all has been allocated that ever will be. */
export async function rehearseGeneration(
  model: Model,
  dialogues: readonly Omit<Dialogue, "answered" | "sampled">[],
  settings: Pick<GenerateSettings, "maxRows" | "maxTokens" | "temperature" | "warping">,
): Promise<void> {
  const enough = new AbortController();
  try {
    await generate(
      model,
      // The longest first, so that the largest passes are among those rehearsed.
      dialogues
        .map(({ policy, prompt, noise, expectedTokens }) => ({
          ...{ policy, prompt, noise, expectedTokens },
          answered: () => null,
        }))
        .sort((one, other) => other.prompt.length - one.prompt.length),
      {
        ...settings,
        maxNewTokens: dialogues.length + 1, // each pass sees at least one more of them through its prompt
        noiseKey: [0, 0],
        stopIds: [],
        signal: enough.signal,
        onPass: ({ tokens, sampled }) => {
          if (tokens === sampled) enough.abort();
        },
      },
    );
  } catch (thrown) {
    if (thrown !== enough.signal.reason) throw thrown;
  }
}

/** Scoring: one pass of each size that there will be. */
export async function rehearseScoring(
  model: Model,
  sequences: readonly Sequence[],
  settings: { temperature: number; maxTokens: number },
): Promise<void> {
  const sizes = new Map<number, Sequence[]>();
  for (const part of microBatches(sequences, settings.maxTokens))
    sizes.set(
      part.reduce((sum, { ids }) => sum + ids.length, 0),
      part,
    );
  for (const part of sizes.values()) await score(model, part, settings);
}

/** A setting that a job's memory depends on, and that can be lowered to make the job fit. */
export interface MemorySetting<S> {
  /** The next step down; null where there is none. */
  lower(settings: S): S | null;
  /** The setting as it is typed: "--batch-rows 16". */
  flag(settings: S): string;
}

/** Halves one of the settings' numbers, down to 1. */
export function halve<K extends string, S extends Readonly<Record<K, number>>>(flag: string, key: K): MemorySetting<S> {
  return {
    lower: (settings) => (settings[key] > 1 ? { ...settings, [key]: Math.floor(settings[key] / 2) } : null),
    flag: (settings) => `${flag} ${settings[key]}`,
  };
}

/** What a job must fit into: bytes, and whose they are. Null where nobody says how much there is. */
export interface MemoryLimit {
  readonly bytes: number;
  readonly what: string;
}

/** Known where buffers lie in the machine's own memory; a GPU's driver does not say how much it has. */
export function memoryLimit({ memory }: Pick<Backend, "memory">): MemoryLimit | null {
  if (memory === "device") return null;
  return { bytes: Math.min(freemem(), process.availableMemory()), what: "this machine has free" };
}

/**
 * Refuses a job that cannot fit; of one that can, compiles the kernels, unless it is only to be known whether it fits.
 * @param what   the job, for the message: "generating"
 * @param plan   the job's memory under given settings
 * @param memorySettings  what can be lowered, those first that cost least
 * @returns      the plan, where it fits or nobody knows
 * @throws OutOfMemoryError with the numbers by part, and the settings that would make it fit
 */
export async function expectMemory<S>(
  what: string,
  settings: S,
  plan: (settings: S) => Promise<MemoryPlan>,
  memorySettings: readonly MemorySetting<S>[],
  limit: MemoryLimit | null,
  compiles = true,
): Promise<MemoryPlan> {
  const found = await plan(settings);
  const fits = ({ totalBytes }: MemoryPlan): boolean => limit === null || totalBytes <= limit.bytes;
  if (limit === null || fits(found)) {
    if (compiles) await found.prepare();
    return found;
  }
  const advice = await firstThatFits(settings, memorySettings, async (one) => fits(await plan(one)));
  throw new OutOfMemoryError(
    `${what} needs ${describePlan(found)}; ${limit.what} ${formatBytes(limit.bytes)}. ` +
      (advice === null
        ? "No setting makes it fit: take a smaller model, or an adapter with more memory (--adapter)."
        : `Try ${advice}.`),
  );
}

/** Each setting lowered alone, then all of them one after another, as far as they go. */
async function firstThatFits<S>(
  settings: S,
  memorySettings: readonly MemorySetting<S>[],
  fits: (settings: S) => Promise<boolean>,
): Promise<string | null> {
  const lowered = async (from: S, setting: MemorySetting<S>): Promise<{ to: S; fits: boolean }> => {
    let to = from;
    for (let next = setting.lower(to); next !== null; next = setting.lower(to)) {
      to = next;
      if (await fits(to)) return { to, fits: true };
    }
    return { to, fits: false };
  };
  for (const setting of memorySettings) {
    const alone = await lowered(settings, setting);
    if (alone.fits) return setting.flag(alone.to);
  }
  let to = settings;
  const used: MemorySetting<S>[] = [];
  for (const setting of memorySettings) {
    used.push(setting);
    const further = await lowered(to, setting);
    to = further.to;
    if (further.fits) return used.map((one) => one.flag(to)).join(" ");
  }
  return null;
}

/** "5.1 GiB (weights 1.8 GiB, KV cache 2.8 GiB, activations 0.4 GiB)", the largest first. */
export function describePlan({ parts, totalBytes }: MemoryPlan): string {
  const listed = [...parts]
    .filter(([, bytes]) => bytes > 0)
    .sort(([, one], [, other]) => other - one)
    .map(([part, bytes]) => `${part} ${formatBytes(bytes)}`);
  return `${formatBytes(totalBytes)} (${listed.join(", ")})`;
}
