// One grid point of a sweep, measured to learn how long all of them take: with the checkpoint's weights, its own answers and
// drafts. If all prompts would take too long, the first ones stand for all.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultSettings, type Phase } from "../../engine/host/index.ts";
import type { Backend } from "../../engine/index.ts";
import { loadModel } from "../../model/index.ts";
import { type GridCell, gridCells } from "../grid.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import type { SweepJob } from "./memory-plan.ts";
import { sweep } from "./sweep.ts";
import { prepareReference, type SweepTiming } from "./sweep-context.ts";

/** Seconds that the probe may take, beside loading and compiling. */
const wantedSeconds = 10;
/** Prompts of the first, short probe, which compiles the kernels. */
const fewPrompts = 2;

export interface CellProbe {
  readonly cell: GridCell;
  /** Prompts that were measured, of both sets. */
  readonly prompts: number;
  /**
   * Of all prompts, by multiplication if not all were measured: the checkpoint's own completions; a grid point; and its rollouts
   * and its scoring, if each is done alone.
   */
  readonly seconds: Readonly<Record<"reference" | "point" | "rollouts" | "scoring", number>>;
  /** Shares of the grid point's assistant tokens that a draft had proposed, and that needed no decode step. */
  readonly drafted: number;
  readonly spared: number;
}

/** The cell half way to the edge along alpha, on an axis of beta. */
function typicalCell({ landscape }: StudySettings): GridCell {
  const cells = gridCells(landscape);
  const distance = ({ alpha, beta }: GridCell): number => Math.abs(alpha - landscape.radius / 2) + Math.abs(beta);
  return cells.reduce((best, cell) => (distance(cell) < distance(best) ? cell : best));
}

/**
 * Measures a grid point around a checkpoint.
 * @param folder  the checkpoint's
 */
export async function probeCell(
  backend: Backend,
  { chat, environment, settings }: SweepJob,
  folder: string,
  signal: AbortSignal,
): Promise<CellProbe> {
  const { reference: own, rollouts, precision } = settings.landscape;
  const cell = typicalCell(settings);
  const { config, weights } = await loadModel(backend, folder, { forwardCopies: precision === "f32" });
  const place = mkdtempSync(join(tmpdir(), "foothold-probe-"));
  try {
    const measure = async (prompts: number): Promise<CellProbe> => {
      const fewer = <T extends { prompts: number }>(set: T): T => ({ ...set, prompts: Math.min(set.prompts, prompts) });
      // Gaussian directions: other kinds cost as much at a grid point, and may need files that do not exist yet.
      const landscape = {
        ...settings.landscape,
        ...usualDirections,
        reference: fewer(own),
        rollouts: fewer(rollouts),
        conversations: 0,
      };
      const timings: SweepTiming[] = [];
      const context = (refill: "on" | "off") => ({
        ...{ chat, environment, signal, model: { backend, config, weights } },
        place: { step: 0, trajectory: [0], state: place, folderOf: () => folder },
        settings: { ...settings, shard: "", landscape: { ...landscape, refill } },
        say: () => {},
        onTiming: (record: SweepTiming) => void timings.push(record),
      });
      const start = performance.now();
      const reference = await prepareReference(context("off"), unseen);
      const ownSeconds = (performance.now() - start) / 1000;
      const isWanted = ({ i, j }: GridCell): boolean => i === cell.i && j === cell.j;
      const folderOf = (refill: string): string => join(place, `${prompts} ${refill}`);
      await sweep(context("off"), 0, folderOf("off"), reference, unseen, 0, isWanted);
      if (landscape.refill === "on") {
        // Completions beside rollouts have kernels of their own, which the first run compiles.
        await sweep(context("on"), 0, folderOf("compiling"), reference, unseen, 0, isWanted);
        timings.splice(0, timings.length, ...timings.filter(({ phase }) => phase !== "points"));
        await sweep(context("on"), 0, folderOf("on"), reference, unseen, 0, isWanted);
      }
      const [drawn, scored] = ["rollouts", "scoring"].map((name) => timings.find(({ phase }) => phase === name));
      const share = (part = 0): number => part / Math.max(1, drawn?.tokens ?? 0);
      const ofOwn = own.prompts / landscape.reference.prompts;
      const ofRollouts = rollouts.prompts / landscape.rollouts.prompts;
      const inOne = timings.filter(({ phase }) => phase === "points").reduce((sum, { seconds }) => sum + seconds, 0);
      const apart = { rollouts: (drawn?.seconds ?? 0) * ofRollouts, scoring: (scored?.seconds ?? 0) * ofOwn };
      return {
        ...{ cell, prompts, drafted: share(drawn?.drafted), spared: share(drawn?.spared) },
        seconds: {
          ...apart,
          reference: ownSeconds * ofOwn,
          // What is measured in one pass grows as its parts do.
          point:
            landscape.refill === "on"
              ? (inOne * (apart.rollouts + apart.scoring)) /
                Math.max(1e-9, (drawn?.seconds ?? 0) + (scored?.seconds ?? 0))
              : apart.rollouts + apart.scoring,
        },
      };
    };
    const all = Math.max(own.prompts, rollouts.prompts);
    const { seconds } = await measure(Math.min(all, fewPrompts));
    const apart = seconds.reference + seconds.rollouts + seconds.scoring;
    const expected = apart + (settings.landscape.refill === "on" ? 2 * seconds.point : 0);
    const prompts = Math.floor((all * wantedSeconds) / expected);
    return await measure(Math.min(all, Math.max(fewPrompts, prompts)));
  } finally {
    rmSync(place, { recursive: true, force: true });
    weights.free();
  }
}

const { directions, centre } = defaultSettings(studySettings).landscape;
const usualDirections = { directions, centre };

const unseen: Phase = { advance() {}, moveTo() {}, phase: () => unseen, done() {} };
