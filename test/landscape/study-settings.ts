// The settings of a study, as a command resolves them.
import { resolveSettings } from "../../engine/host/index.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";

/** @param values  by dotted key; the others have their defaults @throws SettingsError as a command does */
export function settingsOf(values: Readonly<Record<string, unknown>>): StudySettings {
  const given = Object.entries(values).map(([key, value]) => ({ key, value, where: "test" }));
  return resolveSettings(studySettings, [{ given, problems: [] }]);
}
