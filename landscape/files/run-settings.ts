// The settings of a study, from its config.toml.
import { type RunDeclaration, readSettings } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";

/** A study's settings, and the sections that a complete config.toml has. */
export const studyDeclaration: RunDeclaration<(typeof studySettings)["tree"]> = {
  settings: studySettings,
  // Maps around given checkpoints have no evaluation.
  sections: (keys) => ["environment", "train", ...(keys.has("checkpoints") ? [] : ["evaluate"]), "landscape"],
  later: {
    section: "landscape",
    absent: { given: [{ key: "landscape.steps", value: [], where: "set by the program" }], problems: [] },
  },
};

/** The settings that a run folder was made with; without a landscape if only rl/train.ts made it. @throws as `readSettings` */
export function readRunSettings(folder: string): Promise<StudySettings> {
  return readSettings(folder, studyDeclaration);
}
