// The memory of Node itself that a study needs. What grows with prompts × rollouts × grid points is held in two places:
// a sweep keeps the numbers of the points in progress, and the report reads all grid points of a slice at once. V8 ends
// the process without an explanation when its heap is full, so a study that cannot fit is refused before it begins.
//
// Bytes per item were measured with Node 24 (heapUsed after reading synthetic slices of 490,000 and 980,000 rollouts):
// 350 bytes per rollout with one rollout per prompt, 143 with four. They are rounded up.
import { getHeapStatistics } from "node:v8";
import { formatBytes } from "../../engine/host/index.ts";
import { OutOfMemoryError } from "../../engine/index.ts";
import type { StudySettings } from "../settings.ts";
import { mostDraftBytes } from "./drafts.ts";
import type { PromptSurvey } from "./prompt-survey.ts";

/** The prompts of both sets of completions. */
export interface SurveyedSets {
  readonly reference: PromptSurvey;
  readonly rollouts: PromptSurvey;
}

export interface HostMemory {
  /** In V8's heap, bytes: what the memory is for, and how much of it. */
  readonly heap: ReadonlyMap<string, number>;
  /** In buffers outside the heap, bytes. */
  readonly outside: number;
}

/** An episode of the built-in environment, with its entry among the different ones. */
const episodeBytes = 3200;
/** The messages and scores of a completion that is kept. */
const completionBytes = 2000;
/** Ids, mask and log-probabilities, in arrays that grew. */
const bytesPerKeptToken = 32;
/** Reward, tokens and entropy of a finished rollout as float64, its first difference, its flags, and the end of its line in the journal. */
const underWayBytes = 3 * 8 + 4 + 1 + 16;
/** A prompt's map over the grid points: the array and its buffer's head. */
const mapBytes = 300;

/** Numbers by [prompt][rollout], as they are read from cells.jsonl. */
const cellBytes = (quantities: number, prompts: number, rollouts: number): number =>
  quantities * prompts * (56 + 20 * rollouts);

/**
 * Host memory at the peak of a study.
 * @param surveyed  the prompt sets or their first prompts, which then stand for all
 */
export function hostMemoryOf(
  { landscape, train }: Pick<StudySettings, "landscape" | "train">,
  surveyed: SurveyedSets,
  hiddenSize: number,
): HostMemory {
  const { reference, rollouts, points, steps, slices } = landscape;
  const completions = reference.prompts * reference.rollouts;
  const perPrompt = ({ prompts, promptTokens, expectedTokens }: PromptSurvey) => ({
    whole: (promptTokens + expectedTokens.sum) / prompts,
    answer: expectedTokens.sum / prompts,
  });
  const { whole, answer } = perPrompt(surveyed.reference);
  /** Two numbers per rollout, and the tokens of its answers. */
  const draftBytes = (tokens: number): number => (8 + 4 * tokens) * points ** 2 * rollouts.prompts * rollouts.rollouts;
  const prompts = episodeBytes * (Math.max(reference.prompts, rollouts.prompts) + train.promptsPerStep * train.steps);
  const cell =
    cellBytes(5, rollouts.prompts, rollouts.rollouts) +
    cellBytes(5, reference.prompts, reference.rollouts) +
    // Where a rollout first differs, if the checkpoint's completions have the same one.
    cellBytes(1, Math.min(rollouts.prompts, reference.prompts), Math.min(rollouts.rollouts, reference.rollouts));
  const sweeping = new Map([
    ["prompts", prompts],
    ["the checkpoint's own completions", completions * (completionBytes + bytesPerKeptToken * whole)],
    ["grid points", 2 * cell],
  ]);
  const reporting = new Map([
    ["prompts", prompts],
    ["grid points", points ** 2 * cell],
    ["maps of the prompts", steps.length * slices * mapBytes * (rollouts.prompts + 2 * reference.prompts)],
  ]);
  return {
    heap: sumOf(sweeping) > sumOf(reporting) ? sweeping : reporting,
    outside:
      4 * hiddenSize * answer * completions +
      underWayBytes * Math.min(landscape.pointsAtOnce, points ** 2) * rollouts.prompts * rollouts.rollouts +
      (landscape.drafts === "off" ? 0 : Math.min(mostDraftBytes, draftBytes(perPrompt(surveyed.rollouts).answer))),
  };
}

/** V8's limit without the part that garbage, young objects and the program itself need. */
const usableHeap = (limit: number): number => 0.8 * limit;

type Lowered = Pick<StudySettings, "landscape" | "train">;

/** The settings that can be lowered: as they are typed, their value, and the settings with a lower one. */
const lowerable: readonly ((settings: Lowered) => {
  flags: readonly string[];
  now: number;
  to(value: number): Lowered;
})[] = [
  (settings) => ({
    flags: ["--landscape.rollouts.prompts"],
    now: settings.landscape.rollouts.prompts,
    to: (prompts) => withPrompts(settings, prompts, Number.POSITIVE_INFINITY),
  }),
  (settings) => ({
    flags: ["--landscape.reference.prompts"],
    now: settings.landscape.reference.prompts,
    to: (prompts) => withPrompts(settings, Number.POSITIVE_INFINITY, prompts),
  }),
  (settings) => ({
    flags: ["--landscape.rollouts.prompts", "--landscape.reference.prompts"],
    now: Math.max(settings.landscape.rollouts.prompts, settings.landscape.reference.prompts),
    to: (prompts) => withPrompts(settings, prompts, prompts),
  }),
  ({ landscape, train }) => ({
    flags: ["--landscape.points"],
    now: landscape.points,
    to: (points) => ({ train, landscape: { ...landscape, points } }),
  }),
];

function withPrompts({ landscape, train }: Lowered, rollouts: number, reference: number): Lowered {
  const lowered = <S extends { readonly prompts: number }>(set: S, most: number): S => ({
    ...set,
    prompts: Math.min(set.prompts, most),
  });
  return {
    train,
    landscape: {
      ...landscape,
      rollouts: lowered(landscape.rollouts, rollouts),
      reference: lowered(landscape.reference, reference),
    },
  };
}

/**
 * Refuses a study whose measurements do not fit Node's memory.
 * @param heapLimit  V8's limit, bytes
 * @throws OutOfMemoryError with the numbers, the settings that make it fit, and the option of Node that raises the limit
 */
export function expectHostMemory(
  settings: Lowered,
  surveyed: SurveyedSets,
  hiddenSize: number,
  heapLimit: number = getHeapStatistics().heap_size_limit,
): void {
  const needed = (of: Lowered): number => sumOf(hostMemoryOf(of, surveyed, hiddenSize).heap);
  const usable = usableHeap(heapLimit);
  const { heap } = hostMemoryOf(settings, surveyed, hiddenSize);
  const total = sumOf(heap);
  if (total <= usable) return;
  const parts = [...heap]
    .sort(([, one], [, other]) => other - one)
    .map(([part, bytes]) => `${part} ${formatBytes(bytes)}`)
    .join(", ");
  const fits = (of: Lowered): boolean => needed(of) <= usable;
  const advice =
    adviceFor(settings, fits) ??
    "lower values of landscape.rollouts.prompts, landscape.reference.prompts and landscape.points";
  const megabytes = Math.ceil(total / usableHeap(1) / 2 ** 20 / 512) * 512;
  throw new OutOfMemoryError(
    `The landscape needs about ${formatBytes(total)} of Node's own memory (${parts}); Node may use ` +
      `${formatBytes(usable)} for it. Try ${advice}; or give Node more, if the machine has it: NODE_OPTIONS=--max-old-space-size=${megabytes} (MiB). ` +
      "Nothing was trained or written.",
  );
}

/** The largest value of a setting that fits, rounded down to two digits; null if no setting alone makes it fit. */
function adviceFor(settings: Lowered, fits: (settings: Lowered) => boolean): string | null {
  for (const of of lowerable) {
    const { flags, now, to } = of(settings);
    let low = 2;
    let high = now;
    if (!fits(to(low))) continue;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (fits(to(middle))) low = middle;
      else high = middle;
    }
    return flags.map((flag) => `${flag} ${twoDigits(low)}`).join(" ");
  }
  return null;
}

/** 173,211 → 170,000. */
function twoDigits(value: number): number {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(value)) - 1);
  return Math.floor(value / unit) * unit;
}

const sumOf = (parts: ReadonlyMap<string, number>): number => [...parts.values()].reduce((sum, one) => sum + one, 0);
