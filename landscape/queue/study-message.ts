// A study as a queue announces it, and as a worker understands it. Settings are sent as TOML and checked as those of a file.
// A text could name a file, a program or an expression, so texts of a message are used only where they cannot: those of
// the task and of directions' files come from the worker's own settings file, and a study that needs one is refused without it.
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import {
  readToml,
  resolvedToml,
  resolveSettings,
  SettingsError,
  settingValue,
  withValues,
} from "../../engine/host/index.ts";
import { modelDigest, type Provenance } from "../../rl/index.ts";
import { cellKey, type KeyContext } from "../files/cell-key.ts";
import type { PointPlace } from "../grid.ts";
import { type StudySettings, studySettings } from "../settings.ts";
import type { Announcement, CheckpointMessage, Plan } from "./messages.ts";

/** The queue that workers read the announcements from. */
export const announcements = "announcements";

/** One digest for a checkpoint's files. */
export const digestOf = ({ sha256 }: Pick<CheckpointMessage, "sha256">): string =>
  modelDigest({ name: "", commit: null, isEmbedded: false, sha256 });

export interface AnnouncedStudy {
  settings: StudySettings;
  plan: Plan;
  allowMixed: boolean;
  files: Provenance["files"];
  trajectory: readonly number[];
  state: string;
  checkpoints: readonly CheckpointMessage[];
}

/** The announcement of the cells around one of the checkpoints. @param step  its step */
export function announcementOf(study: AnnouncedStudy, step: number): Announcement {
  const files = Object.fromEntries(Object.entries(study.files).map(([setting, { sha256 }]) => [setting, sha256]));
  const settings = resolvedToml(studySettings, sentSettings(study.settings));
  const { plan, allowMixed, trajectory, checkpoints } = study;
  const checkpoint = checkpoints.find((one) => one.step === step);
  if (checkpoint === undefined) throw new Error(`queue: no checkpoint of step ${step}`);
  const origin = { i: 0, j: 0, alpha: 0, beta: 0 };
  const identity = [keyOf({ ...study, checkpoint: digestOf(checkpoint) }, "slice-0", origin), ...extent(study)];
  const name = createHash("sha256").update(identity.join("\n")).digest("hex").slice(0, 16);
  return {
    ...{ schemaVersion: 1, queue: `cells-${name}-step-${step}`, step, settings, plan, allowMixed, files },
    ...{ trajectory: [...trajectory], state: resolve(study.state), checkpoints: [...checkpoints] },
  };
}

/** What is in no key of a cell and says which cells there are. */
const extent = ({ settings: { landscape } }: AnnouncedStudy): (string | number)[] => [
  landscape.points,
  landscape.radius,
];

/** Without what concerns the one that hands out alone. */
const sentSettings = (settings: StudySettings): StudySettings =>
  withValues(
    studySettings,
    settings,
    new Map<string, unknown>([
      ["out", ""],
      ["queue", ""],
      ["notes", []],
      ["extends", ""],
    ]),
  );

/** What the keys around a checkpoint depend on. */
export interface Keyed extends Pick<AnnouncedStudy, "settings" | "plan" | "files" | "checkpoints"> {
  /** Its digest. */
  checkpoint: string;
}

/** The key of a point or an item of a study (files/cell-key.ts). @param part  its name */
export function keyOf(
  { settings, plan, files, checkpoint, checkpoints }: Keyed,
  part: string,
  { i, j, alpha, beta }: PointPlace,
): string {
  const { adapter, foothold, gitRevision, order } = plan;
  const origin: KeyContext["origin"] = { adapter, foothold, gitRevision, products: { order, tiles: {} }, files };
  const slice = /^slice-(\d+)$/.exec(part)?.[1];
  // Pairs and KL from other checkpoints depend on their files too.
  const other = part === "pairs" ? j : /-kl-from-(\d+)$/.exec(part)?.[1];
  const found = checkpoints.find(({ step }) => step === Number(other));
  const rest = found === undefined ? "" : ` ${digestOf(found)}`;
  return cellKey({ settings, origin }, checkpoint, {
    ...{ slice: slice === undefined ? `${part} ${i}${rest}` : Number(slice), alpha, beta },
  });
}

/** Texts that name nothing on the worker's machine: what they may be is checked by their settings, or they are digests. */
const harmless =
  /^environment\.name$|^landscape\.(directions\.(groups|leaveOut)|rays\.worst)$|Sha256$|^train\.|^evaluate\.|^model\./;
/** Settings that decide about a measurement or its task. */
const ofMeasurement = /^(environment|landscape)\./;

/**
 * The settings of an announced study.
 * @param own  those of the worker's settings file; null if it was given none
 * @throws SettingsError when they are no settings, or when a text among them must come from the worker's own file
 */
export function settingsOf({ settings: toml, files }: Announcement, own: StudySettings | null): StudySettings {
  const source = readToml(studySettings, toml, "the study's message");
  const digests = new Map(Object.entries(files).map(([setting, sha256]) => [`${setting}Sha256`, sha256]));
  const given = source.given
    .filter(({ key }) => ofMeasurement.test(key) || key.startsWith("train.") || key === "checkpoints")
    .map((one) => {
      const { key, value } = one;
      const setting = studySettings.byKey.get(key);
      if (key.endsWith("Sha256")) return { ...one, value: digests.get(key) ?? "" };
      if (setting === undefined || !setting.form.startsWith("string") || harmless.test(key)) return one;
      if (!ofMeasurement.test(key) || JSON.stringify(value) === JSON.stringify(setting.default)) return one;
      if (own === null)
        throw new SettingsError(
          `${key}: the study gives a text here, which may name a file or a program of yours, so it is not taken from the queue. Give ` +
            "the worker the study's settings file: node landscape/work.ts my-study.toml --queue …",
        );
      return { ...one, value: settingValue(own, key) };
    });
  return resolveSettings(studySettings, [{ ...source, given }]);
}
