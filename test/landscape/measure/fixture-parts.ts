// A small real checkpoint on the device, and what measures around it: at once, or stopped after every few moves.
import { readFileSync, writeFileSync } from "node:fs";
import * as assert from "uvu/assert";
import type { Phase } from "../../../engine/host/index.ts";
import { writeReference } from "../../../landscape/files/cells.ts";
import { furtherParts } from "../../../landscape/measure/further-parts.ts";
import { prepareReference, type SweepContext } from "../../../landscape/measure/sweep-context.ts";
import type { StudySettings } from "../../../landscape/settings.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { fixturePath } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

const usual = {
  "train.steps": 0,
  "train.checkpoints": [0],
  "landscape.steps": [0],
  "landscape.pointsAtOnce": 4,
  "landscape.maxNewTokens": 4,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 2,
  "landscape.rollouts.rollouts": 1,
};
export const settingsWith = (values: Record<string, unknown>): StudySettings => settingsOf({ ...usual, ...values });

/** A phase that calls `seen` each time that it moves. */
export function watched(seen: () => void = () => {}): Phase {
  const phase: Phase = { advance() {}, moveTo: seen, phase: () => phase, done() {} };
  return phase;
}

/** Multiplies every number of a file of f32 tensors. */
export function scaleWeights(path: string, factor: number): void {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  for (let at = start; at + 4 <= bytes.length; at += 4) bytes.writeFloatLE(factor * bytes.readFloatLE(at), at);
  writeFileSync(path, bytes);
}

/** The fixture's model on the device, and what measures around it. */
export async function openedFixture(values: Record<string, unknown> = {}) {
  const { backend } = await webgpuBackend();
  const folder = fixturePath("tiny-warm-start");
  const { config, weights } = await loadModel(backend, folder);
  const chat = await loadChat(folder, await loadTokenizer(folder));
  const environment = await openEnvironment(settingsWith({}).environment);
  const told: string[] = [];
  const context = (settings: StudySettings, signal = new AbortController().signal): SweepContext => ({
    ...{ model: { backend, config, weights }, chat, environment, settings, signal },
    place: { step: 0, trajectory: [0], state: "", folderOf: () => folder },
    say: (line) => told.push(line),
  });
  const reference = await prepareReference(context(settingsWith(values)), watched());
  const measure = async (into: string, settings: StudySettings, signal?: AbortSignal, seen?: () => void) => {
    writeReference(into, 0, reference.set);
    for (const part of furtherParts(into, settings))
      await part.measure({
        ...{ context: context(settings, signal), folder: into, reference, phase: watched(seen), before: 0 },
      });
  };
  /** Stops after every few moves until all is measured. @returns the number of stops */
  const measureStopped = async (into: string, settings: StudySettings, every: number): Promise<number> => {
    for (let stops = 0; ; stops++) {
      if (furtherParts(into, settings).length === 0) return stops;
      assert.ok(stops < 100, "every attempt gets further");
      const controller = new AbortController();
      let moves = 0;
      try {
        await measure(into, settings, controller.signal, () => {
          if (++moves === every) controller.abort();
        });
      } catch (thrown) {
        if (thrown !== controller.signal.reason) throw thrown;
      }
    }
  };
  return { model: { backend, config, weights }, chat, environment, reference, told, measure, measureStopped };
}
