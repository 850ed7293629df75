// A study as a worker has it open: the weights of one checkpoint, its own completions and the task. They stay in memory while
// the checkpoint's queue has cells.
import { type Progress, SettingsError, UserError } from "../../engine/host/index.ts";
import type { Backend } from "../../engine/index.ts";
import { loadChat, loadModel, loadTokenizer } from "../../model/index.ts";
import { environmentFiles, openEnvironment } from "../../rl/index.ts";
import type { SliceFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import { expectSweepMemory, hasLess, settingsThatFit } from "../measure/memory-plan.ts";
import type { Reference } from "../measure/reference.ts";
import { prepareReference, type SweepContext } from "../measure/sweep-context.ts";
import { linesFrom, ownCheckpoints } from "../ray-settings.ts";
import type { StudySettings } from "../settings.ts";
import type { Announcement, Plan, Stripe } from "./messages.ts";
import { canMix, planDifference } from "./plans.ts";
import { digestOf, keyOf, settingsOf } from "./study-message.ts";
import { type CheckpointPlaces, findCheckpoint, findState } from "./worker-checkpoints.ts";

export interface WorkerMachine extends CheckpointPlaces {
  backend: Backend;
  /** Of the worker's own settings file; null if it was given none. */
  own: StudySettings | null;
  /** What a worker chooses for its machine. */
  batch: StudySettings["batch"];
  pointsAtOnce: number;
  plan: Plan;
  progress: Progress;
  signal: AbortSignal;
}

export interface OpenStudy {
  readonly announcement: Announcement;
  readonly context: SweepContext;
  readonly reference: Reference;
  /** Of the slices that were measured here, by the part's name. */
  readonly facts: Map<string, SliceFacts>;
  /** @throws SettingsError when the worker would measure something else than is asked for */
  expectKeys(stripe: Stripe, cells: readonly PointPlace[]): void;
  /** The folder of any checkpoint of the study. @throws CheckpointError as `findCheckpoint` */
  checkpointAt(step: number): Promise<string>;
  free(): void;
}

/** Why this machine may not measure for a study; null if it may. */
export function refusal({ plan: study, allowMixed }: Announcement, plan: Plan): string | null {
  const difference = planDifference(study, plan);
  if (difference === null || (allowMixed && canMix(study, plan))) return null;
  const mend = canMix(study, plan)
    ? ", or start the one that hands out with --allow-mixed, which marks every figure"
    : "";
  return `${difference}. Use the same here${mend}.`;
}

/**
 * Loads what a study needs, and draws the checkpoint's own completions.
 * @throws UserError that says what this worker lacks or has otherwise
 */
export async function openStudy(announcement: Announcement, machine: WorkerMachine): Promise<OpenStudy> {
  const { step, checkpoints, plan: studyPlan, trajectory } = announcement;
  const { backend, own, batch, progress, signal } = machine;
  const sent = settingsOf(announcement, own);
  const pointsAtOnce = Math.min(machine.pointsAtOnce, sent.landscape.pointsAtOnce);
  const settings: StudySettings = { ...sent, batch, landscape: { ...sent.landscape, pointsAtOnce } };
  const environment = await openEnvironment(settings.environment, { progress, signal });
  const folders = new Map<number, string>();
  const { delta, eta } = settings.landscape.directions;
  const needsOthers = [delta, eta].some(({ kind }) => kind === "pca" || kind === "checkpoint-difference");
  const ends = linesFrom(step, settings.landscape.line, ownCheckpoints(settings)).map((ahead) => step + ahead);
  // Reading the digests of a large checkpoint takes a while, so those of pairs and of KL from others wait until they are needed.
  const checkpointAt = async (other: number): Promise<string> => {
    const checkpoint = checkpoints.find((one) => one.step === other);
    if (checkpoint !== undefined && !folders.has(other))
      folders.set(other, await findCheckpoint(checkpoint, machine, { progress, signal }));
    return folderOf(other);
  };
  const folderOf = (other: number): string => {
    const found = folders.get(other);
    if (found === undefined) throw new UserError(`The study names no checkpoint of step ${other}.`);
    return found;
  };
  for (const { step: other } of checkpoints)
    if (other === step || needsOthers || ends.includes(other)) await checkpointAt(other);
  const folder = folderOf(step);
  const { config, weights } = await loadModel(backend, folder, {
    forwardCopies: settings.landscape.precision === "f32",
  });
  try {
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const plan = await expectSweepMemory(backend, { config, chat, environment, settings }, signal);
    if (hasLess(settings, plan)) progress.line(plan.why);
    const context: SweepContext = {
      model: { backend, config, weights },
      ...{ chat, environment, settings: settingsThatFit(settings, plan), signal },
      place: { step, trajectory, state: findState(announcement, machine), folderOf },
      say: (line) => progress.line(line),
    };
    const { prompts, rollouts } = settings.landscape.reference;
    const drawing = progress.phase(`step ${step}: reference`, prompts * rollouts, "completions");
    const reference = await prepareReference(context, drawing);
    drawing.done();
    const checkpoint = checkpoints.find((one) => one.step === step);
    const files = Object.fromEntries(
      [...environmentFiles(environment)].map(([setting, { path, sha256 }]) => [setting, { name: path, sha256 }]),
    );
    // Where mixed plans are allowed, keys are those of the study's plan.
    const keyed = {
      settings,
      plan: studyPlan,
      files,
      checkpoint: checkpoint === undefined ? "" : digestOf(checkpoint),
      checkpoints,
    };
    return {
      ...{ announcement, context, reference, facts: new Map(), checkpointAt },
      expectKeys(stripe, cells) {
        if (stripe.cells.every(({ key }, index) => key === keyOf(keyed, stripe.part, cells[index]))) return;
        throw new SettingsError(
          "The study's grid points have other keys than this worker's: its settings, environment files or version differ. Use the same " +
            "version of the program, and the study's own settings file if the worker was given one.",
        );
      },
      free: () => weights.free(),
    };
  } catch (thrown) {
    weights.free();
    throw thrown;
  }
}
