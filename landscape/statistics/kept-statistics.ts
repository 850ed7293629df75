// prompt-maps.json: the maps of each prompt, the evidence for the claims, and what the statistics of a slice were made from. If cells, reference,
// settings and program are still the same, a report takes the statistics from the files instead of the cells, which are a
// hundred times as large. If anything differs or cannot be read, the statistics are made again.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { z } from "zod";
import { journalChecksum, projectVersion, writeAtomic } from "../../engine/host/index.ts";
import { referencePath, type SlicePlace, sliceFolder, slicePaths } from "../files/layout.ts";
import { type Grid, gridCells } from "../grid.ts";
import type { SliceEvidence } from "./claims/evidence.ts";
import { readPoints } from "./points.ts";
import type { SummarisedSlice, Summary } from "./summary.ts";

/** What statistics are made from, besides the program. */
export interface StatisticsSource {
  /** The run folder. */
  readonly folder: string;
  readonly place: SlicePlace;
  readonly grid: Grid;
  readonly seed: number;
  readonly simulations: number;
  /** What slice.json and the settings say about ‖Δθ‖; null if the statistics take α² + β² for its square. */
  readonly along: MeasuredAlong | null;
}

const measuredAlong = z.object({
  /** ‖δ‖ and ‖η‖. */
  delta: z.number(),
  eta: z.number(),
  /** Between δ and η. */
  cosine: z.number(),
  /** The grid's centre beside the checkpoint, along δ and η in units of the radius. */
  centre: z.object({ alpha: z.number(), beta: z.number() }),
});
/** The directions of a slice, as its statistics need them. */
export type MeasuredAlong = z.infer<typeof measuredAlong>;

const maps = z.array(z.array(z.number()));

const promptMapsFile = z.object({
  schemaVersion: z.literal(1),
  madeFrom: z.object({
    /** Number and checksum of the records in cells.jsonl. */
    cells: z.object({ records: z.int(), crc: z.string() }),
    /** SHA-256 of reference.json. */
    reference: z.string(),
    grid: z.object({ points: z.int(), radius: z.number() }),
    seed: z.number(),
    simulations: z.int(),
    along: measuredAlong.nullable(),
    /** Versions, and the SHA-256 of the code of the statistics. */
    program: z.string(),
  }),
  /** SHA-256 of the files made with it, and of `evidence` as it stands here. */
  made: z.object({ points: z.string(), summary: z.string(), evidence: z.string() }),
  /** In the order of measurement. */
  cells: z.array(
    z.object({ i: z.int(), j: z.int(), conversationBytes: z.int(), failed: z.int(), floorShare: z.number() }),
  ),
  /** [prompt][cell], the cells ordered by (i, j); PromptMaps has the definitions. */
  reward: maps,
  kl: maps,
  objective: maps,
  /** Its digest is compared, so it has the form that this program gives it. */
  evidence: z.custom<SliceEvidence>(),
});
type PromptMapsFile = z.infer<typeof promptMapsFile>;

const digest = (content: string | Buffer): string => createHash("sha256").update(content).digest("hex");

/** Foothold's and Node's versions, and the code of the statistics: a changed formula is not taken for the old one. */
function programDigest(): string {
  const hash = createHash("sha256");
  for (const folder of ["./", "./claims/", "../", "../files/", "../../rl/statistics/"]) {
    const url = new URL(folder, import.meta.url);
    for (const name of readdirSync(url).sort())
      if (/\.(ts|js)$/.test(name)) hash.update(name).update(readFileSync(new URL(name, url)));
  }
  return `${projectVersion()} ${process.version} ${hash.digest("hex")}`;
}

let program: string | null = null;

/** @returns null if the files are missing or the end of cells.jsonl is damaged */
function madeFromOf({
  folder,
  place,
  grid,
  seed,
  simulations,
  along,
}: StatisticsSource): PromptMapsFile["madeFrom"] | null {
  const { cells: path } = slicePaths(sliceFolder(folder, place));
  const reference = referencePath(folder, place.step);
  if (!existsSync(path) || !existsSync(reference)) return null;
  const cells = journalChecksum(path);
  if (cells === null) return null;
  program ??= programDigest();
  const { points, radius } = grid;
  return {
    ...{ cells, reference: digest(readFileSync(reference)), grid: { points, radius }, seed, simulations },
    along: along === null ? null : measuredAlong.parse(along),
    program,
  };
}

/** Writes prompt-maps.json. @param made  the content of points.csv and summary.json */
export function keepStatistics(
  source: StatisticsSource,
  { folder, cells, maps: { reward, kl, objective }, evidence }: SummarisedSlice,
  made: { points: string; summary: string },
): void {
  const madeFrom = madeFromOf(source);
  if (madeFrom === null || madeFrom.cells.records !== cells.length) return; // a damaged end: made again every time
  const lists = (of: readonly Float64Array[]): number[][] => of.map((map) => [...map]);
  const content: PromptMapsFile = {
    schemaVersion: 1,
    madeFrom,
    made: {
      points: digest(made.points),
      summary: digest(made.summary),
      evidence: digest(JSON.stringify(evidence)),
    },
    cells: [...cells],
    reward: lists(reward),
    kl: lists(kl),
    objective: lists(objective),
    evidence,
  };
  writeAtomic(slicePaths(folder).promptMaps, `${JSON.stringify(content)}\n`);
}

/**
 * The statistics of a slice from points.csv, summary.json and prompt-maps.json.
 * @returns null unless they were made from the same measurements and settings by the same program
 * @throws FileError if sound lines of cells.jsonl follow a damaged one
 */
export function keptStatistics(source: StatisticsSource): SummarisedSlice | null {
  const folder = sliceFolder(source.folder, source.place);
  const paths = slicePaths(folder);
  const texts = [paths.promptMaps, paths.points, paths.summary].map(textOf);
  const [kept, points, summary] = texts;
  if (kept === null || points === null || summary === null) return null;
  const file = parsed(kept);
  if (file === null || file.made.points !== digest(points) || file.made.summary !== digest(summary)) return null;
  if (file.made.evidence !== digest(JSON.stringify(file.evidence))) return null;
  const madeFrom = madeFromOf(source);
  if (madeFrom === null || JSON.stringify(madeFrom) !== JSON.stringify(file.madeFrom)) return null;
  const rows = new Map(readPoints(points, paths.points).map((point) => [`${point.i},${point.j}`, point]));
  const measured = file.cells.flatMap(({ i, j }) => rows.get(`${i},${j}`) ?? []);
  // Its bytes are those that this program wrote, so it has the form that this program gives it.
  const statistics: Summary = JSON.parse(summary);
  const { origin } = statistics;
  const arrays = (of: readonly (readonly number[])[]): Float64Array[] => of.map((map) => Float64Array.from(map));
  const isMeasured = new Set(rows.keys());
  return {
    ...source.place,
    folder,
    points: measured,
    // JSON has no NaN, which an undefined column of the origin's row has.
    summary: { ...statistics, origin: origin === null ? null : (rows.get(`${origin.i},${origin.j}`) ?? null) },
    maps: {
      cells: gridCells(source.grid).filter(({ i, j }) => isMeasured.has(`${i},${j}`)),
      reward: arrays(file.reward),
      kl: arrays(file.kl),
      objective: arrays(file.objective),
    },
    evidence: file.evidence,
    cells: file.cells,
  };
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // the file is missing or cannot be read: it is made again
  }
}

function parsed(text: string): PromptMapsFile | null {
  try {
    return promptMapsFile.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
