// The noise floor: the checkpoint's own rollouts drawn again with other noise seeds, on the same prompts. The spread of their
// mean rewards is what rollout noise alone gives. No weights are perturbed and nothing is scored, so a draw costs less than a
// grid point.
import { existsSync, rmSync } from "node:fs";
import {
  ensureFolder,
  explained,
  killPoint,
  openJournalOf,
  type Phase,
  readJournalOf,
} from "../../engine/host/index.ts";
import type { Model } from "../../model/index.ts";
import { settleRecords } from "../files/arrived-records.ts";
import { noiseFloorFolder, noisePaths } from "../files/layout.ts";
import { isWholeDraw, type NoiseDraw, noiseDraw, noiseJournal } from "../files/noise-files.ts";
import { rollOutCells } from "./measure-points.ts";
import { rolloutsAt } from "./measured-point.ts";
import type { PartJob } from "./part-job.ts";
import type { Reference } from "./reference.ts";
import { type SweepContext, withPolicy } from "./sweep-context.ts";
import { SweepProgress } from "./sweep-progress.ts";
import { UnderWay } from "./under-way.ts";

/** Draws what is missing, and keeps each draw as soon as it is complete. @returns points that `phase` has counted afterwards */
export async function measureNoiseFloor({ context, folder, reference, phase, before }: PartJob): Promise<number> {
  const { place, settings, signal, say, keepEveryMs } = context;
  const { noiseFloor, rollouts } = settings.landscape;
  const own = noiseFloorFolder(folder, place.step);
  const paths = noisePaths(own);
  ensureFolder(own);
  // Workers of a queue may have left draws in another order.
  settleRecords(noiseJournal(folder, place.step, settings.landscape), say);
  let done = 0;
  const cut = (message: string): void => say(`${message} What was cut off is drawn again.`);
  const { journal } = openJournalOf(paths.draws, noiseDraw, cut, ({ draw }) => {
    done = draw;
  });
  const underWay = new UnderWay(paths.underWay, rollouts.rollouts, keepEveryMs ?? 10_000, say);
  const earlier = new Map<number, NoiseDraw>();
  if (existsSync(paths.earlier))
    readJournalOf(paths.earlier, noiseDraw, cut, (record) => void earlier.set(record.draw, record));
  const progress = noiseProgress(context, reference, phase, before);
  const announceStop = (): void =>
    say(
      `The sweep stops ${progress.stopText()}. Kept: ${done} of ${noiseFloor} draws of the noise floor around step ${place.step} and ` +
        `${underWay.length} finished rollouts of the draw under way.`,
    );
  signal.addEventListener("abort", announceStop);
  const first = done;
  try {
    await withPolicy(context, async (policy) => {
      for (let draw = done + 1; draw <= noiseFloor; draw++) {
        signal.throwIfAborted();
        const before = earlier.get(draw);
        if (before !== undefined && isWholeDraw(before, settings.landscape)) {
          journal.append(before);
          done = draw;
          progress.took(1);
          continue;
        }
        giveRollouts(before, draw, underWay);
        const found = await drawNoise(context, policy, reference, draw, underWay, progress);
        killPoint("noise");
        journal.append(found);
        done = draw;
        underWay.clear();
        progress.endBatch();
      }
    });
    underWay.clear();
    explained(paths.earlier, () => rmSync(paths.earlier, { force: true }));
    return before + Math.max(0, noiseFloor - first);
  } finally {
    signal.removeEventListener("abort", announceStop);
    journal.close();
    underWay.write();
    underWay.close();
  }
}

/** Counts draws. @param before  those that `phase` has already counted */
export function noiseProgress(
  { settings }: SweepContext,
  reference: Reference,
  phase: Phase,
  before: number,
): SweepProgress {
  const { prompts, rollouts } = settings.landscape.rollouts;
  return new SweepProgress(phase, before, {
    rolloutsPerCell: prompts * rollouts,
    scoredPerCell: 0,
    meanTokens: reference.rollouts.reduce((sum, { tokens }) => sum + tokens, 0) / reference.rollouts.length,
  });
}

/** The checkpoint's rollouts with one noise seed. @param underWay  those of this draw that are there already; then all of them */
export async function drawNoise(
  context: SweepContext,
  policy: Model,
  reference: Reference,
  draw: number,
  underWay: UnderWay,
  progress: SweepProgress,
): Promise<NoiseDraw> {
  const cell = { i: -1, j: draw, alpha: 0, beta: 0 };
  const start = performance.now();
  const { tokens } = await rollOutCells(
    { ...context, noise: draw },
    ...([policy, [cell], reference, underWay, null, progress] as const),
  );
  context.onTiming?.({ phase: "noise floor", seconds: (performance.now() - start) / 1000, tokens });
  const byPrompt = rolloutsAt(context, cell, underWay);
  const hasFailures = byPrompt.some((prompt) => prompt.some(({ isFailed }) => isFailed));
  return {
    draw,
    reward: byPrompt.map((prompt) => prompt.map(({ reward }) => reward)),
    ...(hasFailures && { failed: byPrompt.map((prompt) => prompt.map(({ isFailed }) => (isFailed ? 1 : 0))) }),
  };
}

/** Adds the rollouts of a draw that had fewer of them to those that are finished. Of a draw only rewards are kept. */
function giveRollouts(found: NoiseDraw | undefined, draw: number, underWay: UnderWay): void {
  for (const [prompt, rewards] of found?.reward.entries() ?? [])
    for (const [rollout, reward] of rewards.entries()) {
      const key = { i: -1, j: draw, prompt, rollout };
      if (underWay.has(key)) continue;
      underWay.add(key, {
        ...{ reward, tokens: 0, entropy: 0, isTruncated: false, formatFailed: null, conversation: null },
        ...(found?.failed?.[prompt][rollout] === 1 && { isFailed: true as const }),
      });
    }
}
