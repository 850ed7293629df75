// The environment that settings name.
import type { Values } from "../../engine/host/index.ts";
import type { environmentSettings } from "../settings.ts";
import { type AlphabetSort, alphabetSort } from "./alphabet-sort.ts";
import { generatedNames, readNameRows } from "./names.ts";

/** @throws SettingsError, FileError when the settings or the file of names are no good */
export async function openEnvironment(settings: Values<typeof environmentSettings>): Promise<AlphabetSort> {
  const { names, namesPerRow, name: _, turn2Template: __, ...options } = settings;
  return alphabetSort(names === "" ? generatedNames(namesPerRow) : await readNameRows(names), options);
}
