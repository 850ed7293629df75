// Writes the measured slices of a run in the formats of other programs, by default into RUN/export. It reads cells.jsonl and
// reference.json, changes no measurement, and needs no GPU.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  choice,
  defineSettings,
  ensureFolder,
  FileError,
  integers,
  type OnDamage,
  runCommand,
  SettingsError,
  text,
  writeAtomic,
} from "../../engine/host/index.ts";
import { stepName } from "../../rl/index.ts";
import { type ReadSlice, readSliceOf } from "../files/cells.ts";
import { exportFolder, type SlicePlace } from "../files/layout.ts";
import { readRunSettings } from "../files/run-settings.ts";
import type { Grid } from "../grid.ts";
import { type CellSums, cellSums, mapsOfSums } from "../statistics/cell-sums.ts";
import { matching } from "../statistics/summarise-slice.ts";
import { formatMap, type MapFormat, mapFormats, mapOnGrid } from "./map-formats.ts";

/** Which slices are exported, and to where. */
export interface ExportOptions {
  readonly format: MapFormat;
  /** The folder of the files; made if it is missing. */
  readonly out: string;
  /** Empty: all of the run. */
  readonly steps: readonly number[];
  readonly slices: readonly number[];
}

/** How each format marks a cell that is not measured. */
const GAPS: Readonly<Record<MapFormat, string>> = {
  npz: "NaN in the arrays and false in measured",
  vtp: "left out of the points",
  json: "null in the arrays and false in measured",
};

/**
 * Exports each measured slice as OUT/step-NNNNNN-slice-K.FORMAT. All slices are read and checked before a file is written.
 * @param say  called for each slice that has missing cells, and for damage
 * @returns the paths written
 * Files in the run's own folder `export` are replaced, since they come from this run.
 * @throws SettingsError when the run has no such step or slice; FileError when nothing is measured, a file exists in
 * another folder, or the measurements do not match the settings
 */
export async function exportRun(folder: string, options: ExportOptions, say: OnDamage): Promise<string[]> {
  const { landscape } = await readRunSettings(folder);
  const { format, out } = options;
  const known = { steps: landscape.steps, slices: Array.from({ length: landscape.slices }, (_, slice) => slice) };
  for (const key of ["steps", "slices"] as const) {
    const strange = options[key].find((one) => !known[key].includes(one));
    if (strange !== undefined)
      throw new SettingsError(`${key}: ${folder} has no ${strange}; it has ${known[key].join(", ") || "none"}.`);
  }
  const chosen = (key: "steps" | "slices") => (options[key].length === 0 ? known[key] : options[key]);
  const made: { path: string; content: string | Buffer }[] = [];
  const total = landscape.points ** 2;
  for (const step of new Set(chosen("steps")))
    for (const slice of new Set(chosen("slices"))) {
      const read = readMap(folder, { step, slice }, landscape, say);
      const missing = total - (read?.cells.length ?? 0);
      const left = read === null ? "The slice is left out." : `They are ${GAPS[format]}.`;
      if (missing > 0)
        say(`Incomplete: step ${step}, slice ${slice}: ${missing} of ${total} cells are not measured. ${left}`);
      if (read === null) continue;
      const failed = read.cells.map(({ rollouts }) => rollouts.failed);
      const failures = failed.reduce((sum, one) => sum + one, 0);
      if (failures > 0)
        say(
          `Incomplete: step ${step}, slice ${slice}: ${failures} rollouts failed in the environment; they count as reward 0 ` +
            "(their number at each cell is in the array failed).",
        );
      const points = read.cells.map(({ point }) => point);
      const map = mapOnGrid({ step, slice }, landscape, points, failed);
      made.push({ path: join(out, `${stepName(step)}-slice-${slice}.${format}`), content: formatMap(map, format) });
    }
  if (made.length === 0)
    throw new FileError(`${folder}: no measured slice to export. landscape/run.ts measures the slices of a run.`);
  const isOwn = resolve(out) === resolve(exportFolder(folder));
  const existing = isOwn ? undefined : made.find(({ path }) => existsSync(path));
  if (existing !== undefined)
    throw new FileError(`${existing.path}: exists already. Delete it, or give another folder with --out.`);
  ensureFolder(out);
  for (const { path, content } of made) writeAtomic(path, content);
  return made.map(({ path }) => path);
}

/** The sums of the measured cells. @throws FileError as `readSummarisedSlice` */
function readMap(folder: string, place: SlicePlace, grid: Grid, say: OnDamage): ReadSlice<CellSums> | null {
  return matching(folder, place, () => {
    const read = readSliceOf(folder, place, say, cellSums);
    if (read !== null) mapsOfSums(read.cells, read.reference.tokens.length, grid); // checks that they match
    return read;
  });
}

export function exportCommand(): Promise<never> {
  return runCommand({
    name: "node landscape/export.ts",
    summary: "Writes the measured maps of a run folder for NumPy (npz), ParaView (vtp) or any program (json).",
    settings: defineSettings({
      format: choice({ default: "npz", options: mapFormats, meaning: "the format of the files" }),
      out: text({ default: "", meaning: "the folder to write into; default: RUN/export" }),
      steps: integers({ default: [], min: 0, meaning: "the checkpoints whose maps are written; default: all" }),
      slices: integers({ default: [], min: 0, meaning: "the slices that are written; default: all" }),
    }),
    positional: [{ name: "RUN", meaning: "the run folder", required: true }],
    examples: [["node landscape/export.ts runs/tiny --format npz", "writes runs/tiny/export/step-NNNNNN-slice-K.npz"]],
    main: async ({ values: { format, out, steps, slices }, positionals: [folder], progress }) => {
      const options = { format, out: out === "" ? exportFolder(folder) : out, steps, slices };
      const say = (message: string) => progress.line(message);
      for (const path of await exportRun(folder, options, say)) say(`Written: ${path}`);
    },
  });
}
