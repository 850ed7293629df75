// Rows of a data set from a file, by its extension:
//   .json     a list of rows
//   .jsonl    one row per line; empty lines are skipped
//   .parquet  objects, by the names of the columns
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import * as zlib from "node:zlib";
import { asyncBufferFromFile, type Compressors, parquetReadObjects } from "hyparquet";
import { asError, FileError, linesOf, withoutByteOrderMark } from "../../engine/host/index.ts";

/** A row, and where it is, for messages: "FILE: row 3". */
export interface DataRow {
  readonly where: string;
  readonly value: unknown;
}

/**
 * All rows of a file, in order.
 * @param what     what the rows are, for messages: "names"
 * @param columns  the columns of a Parquet file that are needed; default all
 * @throws FileError when the file cannot be read, has another extension, or has no rows
 */
export async function readRows(
  path: string,
  { what, columns }: { what: string; columns?: readonly string[] },
): Promise<DataRow[]> {
  const kind = extname(path).toLowerCase();
  const reader = readers.get(kind);
  if (reader === undefined)
    throw new FileError(
      `${path}: expected a file of ${what} ending in ${[...readers.keys()].join(", ")}, got "${kind}". Rename or convert it.`,
    );
  let rows: DataRow[];
  try {
    rows = await reader(path, columns);
  } catch (caught) {
    if (caught instanceof FileError) throw caught;
    throw new FileError(`${path}: cannot be read as ${kind.slice(1)}: ${asError(caught).message}`, { cause: caught });
  }
  if (rows.length === 0) throw new FileError(`${path}: expected rows of ${what}, got none.`);
  return rows.map(({ where, value }) => ({ where: `${path}: ${where}`, value }));
}

type Reader = (path: string, columns: readonly string[] | undefined) => Promise<DataRow[]>;

const numbered = (values: readonly unknown[]): DataRow[] =>
  values.map((value, i) => ({ where: `row ${i + 1}`, value }));

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
      const rows: DataRow[] = [];
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
    async (path, columns) => {
      const file = await asyncBufferFromFile(path);
      return numbered(await parquetReadObjects({ file, columns: columns && [...columns], compressors }));
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

/** For messages: "a list", "a number". */
export function nameOfType(value: unknown): string {
  if (value === null || value === undefined) return value === null ? "null" : "none";
  return Array.isArray(value) ? "a list" : `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
