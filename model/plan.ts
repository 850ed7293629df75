// Computes how much memory a job needs, by part, before it starts. The job's code runs on a planning backend, which
// allocates nothing (engine/backends/planning.ts), so the plan always agrees with the code. This run is called a
// rehearsal.
//
// A job that does not fit is refused, with the numbers and a setting that would make it fit. WebGPU does not report how much
// memory a GPU has, so on a GPU nothing is refused here. A software driver uses the machine's memory, whose size is
// known.
import { freemem } from "node:os";
import { formatBytes } from "../engine/host/index.ts";
import {
  type Backend,
  type MemoryPurpose,
  type OperandPrecision,
  OutOfMemoryError,
  PlanningBackend,
  purposeOf,
} from "../engine/index.ts";
import type { Answer, Dialogue, Text } from "./dialogue.ts";
import { prefixKeyOf } from "./dialogue-bounds.ts";
import type { GenerateSettings, Model } from "./generate-settings.ts";
import { generate } from "./generation.ts";
import type { LanguageModel } from "./language-model.ts";
import { microBatches, type Sequence, score } from "./scoring.ts";
import { makeHalfWeights, makeWeights, piecesAtOnceBytes } from "./weights.ts";

export type MemoryPart = MemoryPurpose | "staging" | "host";

export interface MemoryPlan {
  /**
   * Bytes of each part at the device's peak. The parts on the device sum to `deviceBytes`; among them, "spare" is
   * released memory that is kept for reuse. "staging" (transfers between host and device) and "host" are counted in
   * addition.
   */
  readonly parts: ReadonlyMap<MemoryPart, number>;
  /** The value that the backend's `peakBytes` will have. */
  readonly deviceBytes: number;
  readonly totalBytes: number;
  /** Starts compiling all kernels that the job uses, in parallel, on the given backend. */
  prepare(): Promise<void>;
}

/**
 * The memory of a job. `rehearsal` runs the job on the backend that it is given.
 * @param hostBytes  memory that the job uses on the host, if that is worth counting
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

/** A model without values, for rehearsals. */
export function emptyModel(backend: Backend, config: LanguageModel, precision: OperandPrecision = "f32"): Model {
  if (precision === "f32") return { backend, config, weights: makeWeights(backend, config) };
  const weights = makeHalfWeights(backend, config);
  weights.rehearseLoading();
  return { backend, config, weights };
}

/** A dialogue as a plan knows it. */
export interface RehearsedDialogue extends Omit<Dialogue, "answered" | "sampled"> {
  /** Estimated tokens of a later user turn. Default: there is none. */
  readonly nextTurnTokens?: number;
}

type RehearsalSettings = Pick<
  GenerateSettings,
  "maxRows" | "maxTokens" | "temperature" | "warping" | "bounds" | "between" | "sharesTokens" | "onStates"
>;

/**
 * Rehearses generation until every row is past its prompt, and past a later user turn if there is one: by then everything has
 * been allocated. Rows that began together get their user turn together, as answers of one length do; then half of them, since
 * answers also end one by one, and a smaller pass has buffers of another size.
 * @param texts      read beside the dialogues
 * @param dialogues  all of them; or, with `bounds` of all of them, those with the longest prompts: one for each row
 */
export async function rehearseGeneration(
  model: Model,
  dialogues: readonly RehearsedDialogue[],
  settings: RehearsalSettings,
  texts: readonly Text[] = [],
): Promise<void> {
  const hasTurns = dialogues.some(({ nextTurnTokens = 0 }) => nextTurnTokens > 0);
  // Dialogues that part at once need the most.
  const apart = { ...settings, sharesTokens: "beginnings" as const };
  await rehearseOnce(model, dialogues, apart, hasTurns, texts);
  const half = dialogues.filter((_, i) => i % 2 === 0);
  if (hasTurns && half.length < dialogues.length) await rehearseOnce(model, half, apart, hasTurns);
  const { bounds: _, ...own } = settings; // those of two dialogues, not of all
  await rehearseOnce(model, twins(dialogues), own, false);
}

/** Two dialogues of one prompt, which have kernels of their own while they say the same; or none. */
function twins(dialogues: readonly RehearsedDialogue[]): RehearsedDialogue[] {
  const byPrompt = new Map<string, RehearsedDialogue>();
  for (const dialogue of dialogues) {
    const key = prefixKeyOf(dialogue);
    const other = byPrompt.get(key);
    if (other !== undefined) return [other, dialogue];
    byPrompt.set(key, dialogue);
  }
  return [];
}

async function rehearseOnce(
  model: Model,
  dialogues: readonly RehearsedDialogue[],
  settings: RehearsalSettings,
  hasTurns: boolean,
  texts: readonly Text[] = [],
): Promise<void> {
  const enough = new AbortController();
  let hasTakenTurn = false;
  /** How many dialogues have drawn their first token in the pass under way. */
  let begun = 0;
  try {
    await generate(
      model,
      // The longest prompts first, so that the rehearsal includes the largest passes.
      among(
        texts,
        dialogues
          .map(({ policy, prompt, noise, expectedTokens, draft, nextTurnTokens = 0 }) => ({
            ...{ policy, prompt, noise, expectedTokens, draft },
            answered: ({ turn }: Answer): number[] | null => {
              if (turn > 0 || nextTurnTokens === 0) return null;
              hasTakenTurn = true;
              return new Array<number>(nextTurnTokens).fill(0);
            },
            sampled: once(() => void begun++),
          }))
          .sort((one, other) => other.prompt.length - one.prompt.length),
      ),
      {
        ...settings,
        // So that no answer ends while prompts wait.
        maxNewTokens: promptPasses(dialogues, settings.maxTokens) + 1,
        noiseKey: [0, 0],
        stopIds: [],
        signal: enough.signal,
        onPass: ({ tokens, sampled, rows }) => {
          // A pass in which every row draws a token comes after those that read prompts and user turns. Where rows share a prompt
          // they may draw more tokens than it has, all of them their first.
          if (tokens <= sampled && begun < rows && (hasTakenTurn || !hasTurns)) enough.abort();
          begun = 0;
        },
      },
    );
  } catch (thrown) {
    if (thrown !== enough.signal.reason) throw thrown;
  }
}

/** Calls back the first time. */
function once(then: () => void): () => void {
  let isFirst = true;
  return () => {
    if (isFirst) then();
    isFirst = false;
  };
}

/** Texts among the dialogues of their policy, as evenly as they go. */
function among<D extends { readonly policy: number }>(texts: readonly Text[], dialogues: readonly D[]): (D | Text)[] {
  const all = new Map<number, { readonly texts: Text[]; dialogues: number }>();
  const of = (policy: number) => all.get(policy) ?? { texts: [], dialogues: 0 };
  for (const text of texts) all.set(text.policy, { ...of(text.policy), texts: [...of(text.policy).texts, text] });
  for (const { policy } of dialogues) all.set(policy, { ...of(policy), dialogues: of(policy).dialogues + 1 });
  return dialogues.flatMap((dialogue) => {
    const own = of(dialogue.policy);
    const count = Math.ceil(own.texts.length / own.dialogues);
    all.set(dialogue.policy, { texts: own.texts.slice(count), dialogues: own.dialogues - 1 });
    return [...own.texts.slice(0, count), dialogue];
  });
}

/**
 * At least as many passes as the prompts of these dialogues take. Each pass completes a prompt, and of two that follow each other
 * one is half full, unless a prompt is longer than that.
 */
function promptPasses(dialogues: readonly RehearsedDialogue[], maxTokens: number): number {
  const tokens = dialogues.reduce((sum, { prompt }) => sum + prompt.length, 0);
  const long = dialogues.filter(({ prompt }) => 2 * prompt.length > maxTokens).length;
  return Math.min(dialogues.length, Math.ceil((2 * tokens) / maxTokens) + long + 1);
}

/** Rehearses scoring: one pass per size that will occur. */
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
  /** The setting lowered by one step; null if it cannot be lowered. */
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

/** The memory that a job must fit into: bytes, and where they come from. Null if the size is unknown. */
export interface MemoryLimit {
  readonly bytes: number;
  readonly what: string;
}

/** The size is known if buffers are in the machine's memory; a GPU's driver does not report it. */
export function memoryLimit({ memory }: Pick<Backend, "memory">): MemoryLimit | null {
  if (memory === "device") return null;
  return { bytes: Math.min(freemem(), process.availableMemory()), what: "this machine has free" };
}

/**
 * Refuses a job that cannot fit. If it can fit, starts compiling its kernels, unless only the answer is wanted.
 * @param what   the job, for the message: "generating"
 * @param plan   computes the job's memory under given settings
 * @param memorySettings  the settings that can be lowered, in order of their cost, cheapest first
 * @returns      the plan, if the job fits or the limit is unknown
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
        ? "No setting makes it fit: use a smaller model, or an adapter with more memory (--adapter)."
        : `Try ${advice}.`),
  );
}

/** First lowers each setting alone, then all of them one after another, to their minimum. */
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
