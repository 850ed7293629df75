// alarms.jsonl: cells for which two workers computed other numbers. The file is there only if that happened, and the report
// names each of them.
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ensureFolder, explained, readText } from "../../engine/host/index.ts";

const alarm = z.object({
  step: z.int(),
  slice: z.int().optional(),
  /** The name of rays or of a line (files/point-parts.ts), in place of a slice. */
  part: z.string().optional(),
  i: z.int(),
  j: z.int(),
  /** The worker whose numbers are in the map, if known, and the other one. */
  first: z.string().nullable(),
  second: z.string(),
});
export type Alarm = z.infer<typeof alarm>;

const alarmsPath = (folder: string): string => join(folder, "landscape", "alarms.jsonl");

export function keepAlarm(folder: string, one: Alarm): void {
  const path = alarmsPath(folder);
  ensureFolder(join(folder, "landscape"));
  explained(path, () => appendFileSync(path, `${JSON.stringify(one)}\n`));
}

/** The alarms of a run folder as sentences. Lines that were cut are left out. */
export function readAlarms(folder: string): string[] {
  const path = alarmsPath(folder);
  if (!existsSync(path)) return [];
  return readText(path)
    .split("\n")
    .flatMap((line) => {
      const read = alarm.safeParse(parsed(line));
      return read.success ? alarmText(folder, read.data) : [];
    });
}

export function alarmText(folder: string, { step, slice, part, i, j, first, second }: Alarm): string {
  const where = slice === undefined ? `${part}, point` : `slice ${slice}, cell`;
  const both = `Alarm: step ${step}, ${where} (${i}, ${j}): two workers (${first ?? "an earlier one"} and ${second}) computed other `;
  if (slice === undefined) return `${both}numbers. The first are in the report.`;
  return (
    `${both}` +
    `numbers. The first are in the map. node landscape/verify.ts ${folder} --cell ${step}/${slice}/${i}:${j} tells which are right.`
  );
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
