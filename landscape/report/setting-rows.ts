// The settings of a run as rows of a table.
import { settingValue, valueText } from "../../engine/host/index.ts";
import { readProvenance } from "../../rl/index.ts";
import { type StudySettings, studySettings } from "../settings.ts";

export interface SettingRow {
  readonly key: string;
  readonly value: string;
}

/** The settings that shaped the results; a path is shown as the name of its file or folder. */
export function settingRows(folder: string, settings: StudySettings): SettingRow[] {
  const { model, names } = readProvenance(folder);
  return [
    { key: "model", value: model.isEmbedded ? "the one that comes with the program" : model.name },
    { key: "names", value: names === null ? "the built-in generator" : names.name },
    ...shapingSettings(settings),
  ];
}

/** The settings that config.toml has for the environment and the parts of this run, without those that change no result. */
export function shapingSettings(settings: StudySettings): SettingRow[] {
  return [...studySettings.byKey]
    .filter(([key, setting]) => !setting.isFree && studySettings.applies(key, settings))
    .filter(([key]) => settings.landscape.steps.length > 0 || !key.startsWith("landscape."))
    .map(([key]) => ({ key, value: valueText(settingValue(settings, key)) }));
}

/** The settings that are not the same in all runs: for each its value in every run, null where it does not apply. */
export function differingSettings(runs: readonly StudySettings[]): { key: string; values: (string | null)[] }[] {
  const rows = runs.map((settings) => new Map(shapingSettings(settings).map(({ key, value }) => [key, value])));
  const keys = [...new Set(rows.flatMap((row) => [...row.keys()]))];
  return keys
    .map((key) => ({ key, values: rows.map((row) => row.get(key) ?? null) }))
    .filter(({ values }) => new Set(values).size > 1);
}
