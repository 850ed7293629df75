// Rollouts that were sampled and not yet learnt from. With train.asyncLevel 1 there is a step of them at every moment, and it is
// part of the saved state: the weights that sampled it are gone. A run keeps them in the form in which they are saved, so an
// undisturbed run and a resumed one learn from the same numbers.
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { gzipMember } from "../engine/host/index.ts";
import type { Rollout } from "./rollout.ts";

/** JSON writes null for NaN, which only a scorer's own parts can hold. */
const score = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

// What a scorer tells beside these parts is kept too (looseObject).
const parts = z.looseObject({
  turnScores: z.array(score).optional(),
  formatFailed: z.array(z.boolean()).optional(),
  rewards: z.record(z.string(), z.number()).optional(),
});

const rolloutSchema = z.object({
  episode: z.int(),
  rollout: z.int(),
  point: z.int(),
  messages: z.array(z.object({ role: z.enum(["system", "user", "assistant"]), content: z.string() })),
  ids: z.array(z.int()),
  mask: z.array(z.int()),
  logProbs: z.array(z.number()),
  entropySum: z.number(),
  tokens: z.int(),
  isTruncated: z.boolean(),
  isLastTruncated: z.boolean(),
  reward: z.number(),
  parts,
  failure: z.string().nullable(),
});

const lineSchema = z.object({ step: z.int(), group: z.int(), rollout: rolloutSchema });

export interface PendingStep {
  /** The step that learns from them. */
  readonly step: number;
  /** By prompt, in the order in which they were drawn. */
  readonly groups: readonly (readonly Rollout[])[];
}

/** One gzip member with a line of JSON per rollout. Numbers are written so that they are read back to the same bits. */
export function packRollouts({ step, groups }: PendingStep): Buffer {
  const lines = groups.flatMap((rollouts, group) =>
    rollouts.map((rollout) => JSON.stringify({ step, group, rollout })),
  );
  return gzipMember(`${lines.join("\n")}\n`);
}

/** @throws Error when the content is not what `packRollouts` wrote */
export function unpackRollouts(packed: Uint8Array): PendingStep {
  const lines = gunzipSync(packed).toString("utf8").trimEnd().split("\n");
  const groups: Rollout[][] = [];
  let step = 0;
  for (const text of lines) {
    const line = lineSchema.parse(JSON.parse(text));
    step = line.step;
    while (groups.length <= line.group) groups.push([]);
    groups[line.group].push(line.rollout);
  }
  return { step, groups };
}
