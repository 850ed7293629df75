// Whether a run has the settings of the original study, so that its published correlations may be drawn beside the run's.
import { readTomlFile, resolveSettings, settingValue, valueText } from "../../engine/host/index.ts";
import { filesOf } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";

/** What the study leaves open, or what only says how much of it a run does. */
const IGNORED = new Set([
  ...["notes", "extends", "model.path", "model.sha256", "train.seed", "train.episodeSeed", "train.precision"],
  ...["train.steps", "train.checkpoints", "train.conversationsEvery", "evaluate.every"],
  ...["landscape.seed", "landscape.steps", "landscape.slices", "landscape.precision", "landscape.conversations"],
  ...["landscape.simulations", "landscape.noiseFloor"],
]);
const MODEL = "Qwen2.5-0.5B-Instruct";

/** The settings of the preset `study`: its model, task, training and grid. Seeds, steps, slices and precision are free. */
export function isStudyLike(settings: StudySettings): boolean {
  const name = settings.model.path
    .replace(/@[^@/]*$/, "")
    .split(/[\\/]/)
    .at(-1);
  if (name !== MODEL) return false;
  const files = filesOf(studySettings, ["study"]);
  const study = resolveSettings(
    studySettings,
    files.map((file) => readTomlFile(studySettings, file)),
  );
  return [...studySettings.byKey].every(
    ([key, setting]) =>
      setting.isFree ||
      IGNORED.has(key) ||
      !studySettings.applies(key, study) ||
      valueText(settingValue(settings, key)) === valueText(settingValue(study, key)),
  );
}
