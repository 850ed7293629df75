// A sweep measures one slice around one checkpoint: at every grid point R from fresh rollouts, J and KL on the reference
// completions. Points go through in batches that share one generation loop; each batch is journalled when it is done, so a
// kill costs the batch under way, and the sweep that goes on writes the same bytes.
import { join } from "node:path";
import { z } from "zod";
import {
  ensureFolder,
  type Journal,
  killPoint,
  MemberFile,
  openJournal,
  type Phase,
  UserError,
  type Values,
  writeAtomic,
} from "../../engine/host/index.ts";
import type { Backend, ParameterArena } from "../../engine/index.ts";
import type { Chat, LanguageModel, Model } from "../../model/index.ts";
import {
  type Environment,
  type Episode,
  EpisodeList,
  type Rollout,
  type RolloutRequest,
  type RolloutSettings,
  rollOut,
} from "../../rl/index.ts";
import { type GridCell, workOrder } from "../grid.ts";
import type { studySettings } from "../settings.ts";
import { type CellRecord, pointOf, writePoints } from "../statistics/points.ts";
import { type Summary, summarise } from "../statistics/summary.ts";
import { makeSlice } from "./directions.ts";
import { PerturbedWeights } from "./perturbed-weights.ts";
import { byPrompt, type Reference, scorePoint, scoreReference } from "./reference.ts";

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
  signal: AbortSignal;
  onTiming?: (record: { phase: string; seconds: number }) => void;
}

const byRollout = z.array(z.array(z.number()).readonly()).readonly();
export const cellSchema = z.object({
  i: z.number().int(),
  j: z.number().int(),
  alpha: z.number(),
  beta: z.number(),
  rollouts: z.object({
    reward: byRollout,
    tokens: byRollout,
    entropy: byRollout,
    truncated: byRollout,
    formatFailed: byRollout,
  }),
  reference: z.object({ kl: byRollout, k1: byRollout, k3: byRollout, objective: byRollout, entropy: byRollout }),
  /** Bytes of the cell's member in rollouts.jsonl.gz. */
  conversationBytes: z.number().int(),
});
export type JournalledCell = z.infer<typeof cellSchema>;

export const referenceSchema = z.object({ tokens: byRollout, reward: byRollout, advantage: byRollout });

/** The episodes of the fixed prompt set: both sets of completions take the first ones of one list. */
function promptSet({ environment, settings }: SweepContext): Episode[] {
  const { reference, rollouts, episodeSeed } = settings.landscape;
  return new EpisodeList(environment, episodeSeed).slice(0, Math.max(reference.prompts, rollouts.prompts));
}

function rolloutSettings({ settings, signal }: SweepContext): RolloutSettings {
  return {
    maxNewTokens: settings.landscape.maxNewTokens,
    temperature: 1,
    seed: settings.landscape.seed,
    purpose: "landscape",
    step: 0,
    turn2Template: settings.environment.turn2Template,
    maxRows: settings.batch.rows,
    maxTokens: settings.batch.tokens,
    signal,
  };
}

/** Draws the checkpoint's reference completions and scores them. The same for every slice. */
export async function prepareReference(context: SweepContext): Promise<Reference> {
  const { prompts, rollouts } = context.settings.landscape.reference;
  const requests = promptSet(context)
    .slice(0, prompts)
    .flatMap((episode) => Array.from({ length: rollouts }, (_, rollout) => ({ episode, rollout })));
  const drawn = await rollOut(context.model, context.chat, requests, rolloutSettings(context));
  return scoreReference(context.model, drawn, rollouts, {
    maxTokens: context.settings.batch.tokens,
    signal: context.signal,
  });
}

/** Measures what is missing of one slice. */
export async function sweep(
  context: SweepContext,
  slice: number,
  folder: string,
  reference: Reference,
  phase: Phase,
): Promise<void> {
  const { model, settings, signal } = context;
  const { landscape } = settings;
  ensureFolder(folder);
  const { journal, members, done } = openSlice(folder);
  try {
    const directions = await makeSlice(model.weights, landscape.seed, slice);
    writeAtomic(
      join(folder, "slice.json"),
      `${JSON.stringify({ seed: landscape.seed, slice, digest: directions.digest })}\n`,
    );
    const todo = workOrder({ points: landscape.points, radius: landscape.radius }).filter(
      ({ i, j }) => !done.has(`${i},${j}`),
    );
    if (todo.length === 0) return;
    const size = Math.min(landscape.pointsAtOnce, todo.length);
    const weights = new PerturbedWeights(model.weights, size);
    try {
      for (let start = 0; start < todo.length; start += size) {
        signal.throwIfAborted();
        const cells = todo.slice(start, start + size);
        weights.place(cells, directions);
        const perturbed: Model = { backend: model.backend, config: model.config, weights };
        const records = await measure(context, perturbed, cells, reference);
        killPoint("cells");
        journal.append(
          ...records.map(({ record, rollouts }) => ({
            ...record,
            conversationBytes: members.append(conversationLines(rollouts, landscape.conversations)),
          })),
        );
        phase.advance(cells.length);
      }
    } finally {
      weights.free();
    }
  } finally {
    journal.close();
    members.close();
  }
}

function openSlice(folder: string): { journal: Journal<JournalledCell>; members: MemberFile; done: Set<string> } {
  const { journal, records } = openJournal(join(folder, "cells.jsonl"), cellSchema);
  const { members, sound } = MemberFile.open(
    join(folder, "rollouts.jsonl.gz"),
    records.map(({ conversationBytes }) => conversationBytes),
  );
  if (sound < records.length) journal.truncate(sound);
  return { journal, members, done: new Set(records.slice(0, sound).map(({ i, j }) => `${i},${j}`)) };
}

/** Point k of the perturbed weights is cells[k]. */
async function measure(
  context: SweepContext,
  perturbed: Model,
  cells: readonly GridCell[],
  reference: Reference,
): Promise<{ record: CellRecord; rollouts: Rollout[] }[]> {
  const { settings, onTiming } = context;
  const { prompts, rollouts: perPrompt } = settings.landscape.rollouts;
  const episodes = promptSet(context).slice(0, prompts);
  const requests: RolloutRequest[] = cells.flatMap((_, point) =>
    episodes.flatMap((episode) => Array.from({ length: perPrompt }, (__, rollout) => ({ episode, rollout, point }))),
  );
  const start = performance.now();
  const drawn = await rollOut(perturbed, context.chat, requests, rolloutSettings(context));
  const middle = performance.now();
  onTiming?.({ phase: "rollouts", seconds: (middle - start) / 1000 });
  const found: { record: CellRecord; rollouts: Rollout[] }[] = [];
  for (const [point, { i, j, alpha, beta }] of cells.entries()) {
    const own = drawn.slice(point * prompts * perPrompt, (point + 1) * prompts * perPrompt);
    const of = (value: (rollout: Rollout) => number): number[][] => byPrompt(own.map(value), perPrompt);
    const scored = await scorePoint(context.model, perturbed, point, reference, {
      maxTokens: settings.batch.tokens,
      signal: context.signal,
      clipLow: settings.train.clipLow,
      clipHigh: settings.train.clipHigh,
    });
    found.push({
      record: {
        i,
        j,
        alpha,
        beta,
        rollouts: {
          reward: of(({ reward }) => reward),
          tokens: of(({ tokens }) => tokens),
          entropy: of(({ entropySum }) => entropySum),
          truncated: of(({ isTruncated }) => (isTruncated ? 1 : 0)),
          formatFailed: of(({ parts }) => (parts.formatFailed.some(Boolean) ? 1 : 0)),
        },
        reference: scored,
      },
      rollouts: own,
    });
  }
  onTiming?.({ phase: "scoring", seconds: (performance.now() - middle) / 1000 });
  return found;
}

/** The conversations of the first prompts, one a line, to read. */
function conversationLines(rollouts: readonly Rollout[], prompts: number): string {
  const kept = [...new Set(rollouts.map(({ episode }) => episode))].slice(0, prompts);
  return rollouts
    .filter(({ episode, rollout }) => rollout === 0 && kept.includes(episode))
    .map(({ episode, reward, failure, messages }) => `${JSON.stringify({ episode, reward, failure, messages })}\n`)
    .join("");
}

/** Makes points.csv and summary.json of a slice from its journal. Needs no GPU. */
export function summariseSlice(
  folder: string,
  settings: Settings,
  reference: z.infer<typeof referenceSchema>,
  slice: number,
): Summary {
  const { journal, records } = openJournal(join(folder, "cells.jsonl"), cellSchema);
  journal.close();
  if (records.length === 0) throw new UserError(`${folder}: no grid point was measured yet. Run the sweep first.`);
  const { points, radius, seed, simulations } = settings.landscape;
  writeAtomic(join(folder, "points.csv"), writePoints(records.map((cell) => pointOf(cell, reference))));
  const summary = summarise(records, reference, { grid: { points, radius }, seed: seed * 1000 + slice, simulations });
  writeAtomic(join(folder, "summary.json"), `${JSON.stringify(summary, null, 1)}\n`);
  return summary;
}
