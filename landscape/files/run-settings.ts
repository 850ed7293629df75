// The settings of a study, from its config.toml.
import { type RunDeclaration, readSettings } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";

/** A study's settings, and the sections that every complete config.toml has. */
export const studyDeclaration: RunDeclaration<(typeof studySettings)["tree"]> = {
  settings: studySettings,
  sections: ["environment", "train", "evaluate", "landscape"],
};

/** The settings that a run folder was made with. @throws as `readSettings` */
export function readRunSettings(folder: string): Promise<StudySettings> {
  return readSettings(folder, studyDeclaration);
}
