// The source of Alphabet-sort's names: rows, each a list of full names, of which an episode uses the first few. A file
// of the user is read once and its order kept for every seed, as the original task does with its data set. The built-in
// generator needs no file and no network, and makes any number of rows.
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import * as zlib from "node:zlib";
import { asyncBufferFromFile, type Compressors, parquetReadObjects } from "hyparquet";
import { asError, FileError, linesOf, SettingsError, withoutByteOrderMark } from "../../engine/host/index.ts";
import type { Draws } from "./environment.ts";
import { labelledRandom } from "./python/random.ts";

export interface NameRows {
  /** The source of the rows, for messages: a file's path, or the generator. */
  readonly source: string;
  /** All rows in order; endless for a generator. Only a generator's rows depend on the seed. */
  rows(seed: number): Iterable<readonly string[]>;
  /** One row, drawn from the caller's random stream. */
  draw(random: Draws): readonly string[];
}

const list = (names: string): readonly string[] => names.split(" ");

/** The built-in names: ASCII, 2 to 7 letters, each a single token in the tiny model's tokenizer. */
export const firstNames = list(
  "Ada Alan Amir Anna Ben Bela Carl Cleo Dana Diego Elif Emma Erik Fay Finn Gita Hana Hugo Ines Ivan Jan Joan Kai Kofi " +
    "Lars Lena Lin Mary Mei Nils Nora Olga Omar Paul Priya Quin Raj Rosa Sam Sofia Tara Tomas Uma Vera Wei Xena Yuki Zoe",
);
export const lastNames = list(
  "Abbott Adler Bauer Bose Chen Cruz Dahl Diaz Eaton Euler Fuchs Ford Gauss Grant Haas Hopper Ibsen Ito Jones Kahn Kim " +
    "Klein Lee Lopez Mann Moore Nash Noether Okafor Ortiz Patel Pohl Quist Rao Reed Rossi Sato Silva Singh Turing Ueda " +
    "Vance Vogel Weber Wong Xu Young Zhao",
);

/**
 * Rows of `namesPerRow` names, first and last names drawn independently and uniformly (a row may repeat a name). The
 * rows of a seed come from the stream labelled `names|seed`, which is independent of the stream of the environment's
 * turns.
 */
export function generatedNames(
  namesPerRow = 12,
  first: readonly string[] = firstNames,
  last: readonly string[] = lastNames,
): NameRows {
  if (!Number.isSafeInteger(namesPerRow) || namesPerRow < 1)
    throw new SettingsError(`names per row: expected a whole number from 1 on, got ${namesPerRow}`);
  const draw = (random: Draws): string[] =>
    Array.from({ length: namesPerRow }, () => `${random.choice(first)} ${random.choice(last)}`);
  return {
    source: `the built-in generator of ${namesPerRow} names per row`,
    *rows(seed) {
      const random = labelledRandom(`names|${seed}`);
      while (true) yield draw(random);
    },
    draw,
  };
}

/** The given rows, in order. */
export function listedNames(rows: readonly (readonly string[])[], source: string): NameRows {
  return { source, rows: () => rows, draw: (random) => random.choice(rows) };
}

/**
 * Rows from a file, by its extension:
 * - `.json`     a list of rows
 * - `.jsonl`    one row per line; empty lines are skipped
 * - `.parquet`  a column `names` of lists of strings
 *
 * A row is a list of names, or an object whose `names` is a list of names.
 * @throws FileError when the file cannot be read, has another extension, has no rows, or has a row that is not a list
 *   of names
 */
export async function readNameRows(path: string): Promise<NameRows> {
  const kind = extname(path).toLowerCase();
  const reader = readers.get(kind);
  if (reader === undefined)
    throw new FileError(
      `${path}: expected a file of names ending in ${[...readers.keys()].join(", ")}, got "${kind}". Rename or convert it.`,
    );
  let rows: { where: string; value: unknown }[];
  try {
    rows = await reader(path);
  } catch (caught) {
    if (caught instanceof FileError) throw caught;
    throw new FileError(`${path}: cannot be read as ${kind.slice(1)}: ${asError(caught).message}`, { cause: caught });
  }
  if (rows.length === 0) throw new FileError(`${path}: expected rows of names, got none.`);
  return listedNames(
    rows.map(({ where, value }) => namesOf(value, `${path}: ${where}`)),
    path,
  );
}

type Reader = (path: string) => Promise<{ where: string; value: unknown }[]>;

const numbered = (values: readonly unknown[]) => values.map((value, i) => ({ where: `row ${i + 1}`, value }));

const readers = new Map<string, Reader>([
  [
    ".json",
    async (path) => {
      const parsed: unknown = JSON.parse(withoutByteOrderMark(await readFile(path, "utf8")));
      if (!Array.isArray(parsed)) throw new FileError(`${path}: expected a list of rows, got ${nameOfType(parsed)}.`);
      return numbered(parsed);
    },
  ],
  [
    ".jsonl",
    async (path) => {
      const rows: { where: string; value: unknown }[] = [];
      linesOf(withoutByteOrderMark(await readFile(path, "utf8"))).forEach((line, i) => {
        if (line.trim() === "") return;
        try {
          rows.push({ where: `line ${i + 1}`, value: JSON.parse(line) });
        } catch (caught) {
          throw new FileError(`${path}: line ${i + 1} is not JSON: ${asError(caught).message}`, { cause: caught });
        }
      });
      return rows;
    },
  ],
  [
    ".parquet",
    async (path) => {
      const file = await asyncBufferFromFile(path);
      return numbered(await parquetReadObjects({ file, columns: ["names"], compressors }));
    },
  ],
]);

/** Other compressions that data sets use, besides Snappy, which hyparquet supports. */
const compressors: Compressors = {
  GZIP: (bytes) => zlib.gunzipSync(bytes),
  ZSTD: decompressZstd,
  BROTLI: (bytes) => zlib.brotliDecompressSync(bytes),
};

function decompressZstd(bytes: Uint8Array): Uint8Array {
  if (!("zstdDecompressSync" in zlib))
    throw new FileError(
      `its pages are compressed with zstd, which Node ${process.versions.node} cannot read: 22.15 can.`,
    );
  return zlib.zstdDecompressSync(bytes);
}

function namesOf(row: unknown, where: string): readonly string[] {
  const names: unknown = typeof row === "object" && row !== null && "names" in row ? row.names : row;
  if (!Array.isArray(names))
    throw new FileError(`${where}: expected a list of names, or an object with "names", got ${nameOfType(row)}.`);
  return names.map((name: unknown, i) => {
    if (typeof name === "string") return name;
    throw new FileError(`${where}: expected strings, got ${nameOfType(name)} as name ${i + 1}.`);
  });
}

function nameOfType(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
