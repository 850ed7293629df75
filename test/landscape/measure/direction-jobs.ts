// What tests of directions share: jobs on qwen2-tiny with the completions of landscape.json, and a direction's numbers.
import { directionNormals, wordsOf } from "../../../engine/random.ts";
import type { Direction } from "../../../landscape/measure/directions/direction.ts";
import type { DirectionJob } from "../../../landscape/measure/directions.ts";
import type { Reference } from "../../../landscape/measure/reference.ts";
import type { StudySettings } from "../../../landscape/settings.ts";
import { loadModel } from "../../../model/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { fixturePath, readFixture } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

export const folder = fixturePath("qwen2-tiny");

/** A direction's numbers, factor included. */
export async function numbersOf(direction: Direction, name: string, size: number): Promise<number[]> {
  const one = direction.get(name);
  if (one === undefined) return new Array<number>(size).fill(0);
  const plain = one.kind === "explicit" ? await one.tensor.read() : directionNormals(one.key, wordsOf(name), size);
  return Array.from(plain, (value) => one.scale * value);
}

export function settingsWith(values: Record<string, unknown>): StudySettings {
  const usual = {
    "train.steps": 3,
    "train.checkpoints": [0, 3],
    "landscape.steps": [0],
    "landscape.radius": 0.1,
    "landscape.reference.prompts": 2,
  };
  return settingsOf({ ...usual, ...values });
}

export interface LandscapeFixture {
  sequences: { group: number; ids: number[]; mask: number[]; advantage: number }[];
  norms: Record<string, { weight: number; delta: number; eta: number }>;
  slope: [number, number];
}

/** The completions of landscape.json as a reference; the fields that no direction reads are empty. */
export function knownReference({ sequences }: LandscapeFixture): Reference {
  const groups = new Set(sequences.map(({ group }) => group)).size;
  const perPrompt = sequences.length / groups;
  const sorted = [...sequences].sort((a, b) => a.group - b.group);
  return {
    set: { tokens: [], reward: [], advantage: [] },
    rollouts: sorted.map(({ ids, mask }) => ({
      ...{ episode: 0, rollout: 0, point: 0, messages: [], logProbs: [], entropySum: 0 },
      ...{ isTruncated: false, isLastTruncated: false, reward: 0, parts: {}, failure: null },
      ...{ ids, mask, tokens: mask.reduce((sum, one) => sum + one, 0) },
    })),
    prompts: groups,
    rolloutsPerPrompt: perPrompt,
    advantages: sorted.map(({ advantage }) => advantage),
    parts: [],
  };
}

export const landscape = readFixture<LandscapeFixture>("landscape.json");

/** A job on qwen2-tiny; `said` gets the lines for the user. */
export async function jobOf(values: Record<string, unknown>, said: string[] = [], step = 0): Promise<DirectionJob> {
  const { backend } = await webgpuBackend();
  const { config, weights } = await loadModel(backend, folder);
  return {
    ...{ arena: weights, config, settings: settingsWith(values), slice: 0, reference: knownReference(landscape) },
    place: { step, trajectory: [0, 3], state: "nowhere", folderOf: () => fixturePath("tiny-warm-start") },
    say: (line) => said.push(line),
  };
}

export const axis = (name: "delta" | "eta", of: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(of).map(([key, value]) => [`landscape.directions.${name}.${key}`, value]));
