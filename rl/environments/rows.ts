// Rows of a data set from a file, by its extension:
//   .json     a list of rows, or one row per line as .jsonl
//   .jsonl    one row per line; empty lines are skipped
//   .parquet  objects, by the names of the columns
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { asError, explainSystemError, FileError, linesOf, withoutByteOrderMark } from "../../engine/host/index.ts";
import { readParquetRows } from "./parquet-rows.ts";

/** A row, and where it is, for messages: "FILE: row 3". */
export interface DataRow {
  readonly where: string;
  readonly value: unknown;
}

export interface RowsWanted {
  /** What the rows are, for messages: "names". */
  readonly what: string;
  /** The columns of a Parquet file that are needed, as `readParquetRows` has them; default all. */
  readonly columns?: readonly string[];
  /** What to do if one of them is missing. */
  readonly cure?: string;
  /** One of several files may have no rows. */
  readonly mayBeEmpty?: boolean;
}

/**
 * All rows of a file, in order.
 * @throws FileError when the file cannot be read, has another extension, or has no rows
 */
export async function readRows(
  path: string,
  { what, columns, cure = "", mayBeEmpty = false }: RowsWanted,
): Promise<DataRow[]> {
  const kind = extname(path).toLowerCase();
  const reader = readers.get(kind);
  if (reader === undefined)
    throw new FileError(
      `${path}: expected a file of ${what} ending in ${[...readers.keys()].join(", ")}, got "${kind}". Rename or convert it.`,
    );
  let rows: DataRow[];
  try {
    rows = await reader(path, columns, cure);
  } catch (caught) {
    if (caught instanceof FileError) throw caught;
    const known = explainSystemError(caught, path);
    if (known !== null) throw known;
    throw new FileError(`${path}: cannot be read as ${kind.slice(1)}: ${asError(caught).message}`, { cause: caught });
  }
  if (rows.length === 0 && !mayBeEmpty) throw new FileError(`${path}: expected rows of ${what}, got none.`);
  return rows.map(({ where, value }) => ({ where: `${path}: ${where}`, value }));
}

type Reader = (path: string, columns: readonly string[] | undefined, cure: string) => Promise<DataRow[]>;

/** Node reads other encodings without an error, and puts U+FFFD in place of each letter that it does not understand. */
async function readUtf8(path: string): Promise<string> {
  const bytes = await readFile(path);
  if (!isUtf8(bytes))
    throw new FileError(
      `${path}: expected text in UTF-8, got another encoding. Convert it, for example by iconv -f latin1 -t utf-8.`,
    );
  return withoutByteOrderMark(bytes.toString("utf8"));
}

const numbered = (values: readonly unknown[]): DataRow[] =>
  values.map((value, i) => ({ where: `row ${i + 1}`, value }));

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function rowsOfLines(path: string, text: string): DataRow[] {
  return linesOf(text).flatMap((line, i) => {
    if (line.trim() === "") return [];
    try {
      return [{ where: `line ${i + 1}`, value: JSON.parse(line) as unknown }];
    } catch (caught) {
      throw new FileError(`${path}: line ${i + 1} is not JSON: ${asError(caught).message}`, { cause: caught });
    }
  });
}

const readers = new Map<string, Reader>([
  [
    ".json",
    async (path) => {
      const text = await readUtf8(path);
      // Data sets of the hub often give lines of JSON this ending too.
      if (isJson(text.trimStart().split("\n", 1)[0]) && !isJson(text)) return rowsOfLines(path, text);
      const parsed: unknown = JSON.parse(text);
      if (!Array.isArray(parsed)) throw new FileError(`${path}: expected a list of rows, got ${nameOfType(parsed)}.`);
      return numbered(parsed);
    },
  ],
  [".jsonl", async (path) => rowsOfLines(path, await readUtf8(path))],
  [".parquet", async (path, columns, cure) => numbered(await readParquetRows(path, columns, cure))],
]);

/** For messages: "a list", "a number". */
export function nameOfType(value: unknown): string {
  if (value === null || value === undefined) return value === null ? "null" : "none";
  if (value instanceof Date) return "a date";
  return Array.isArray(value) ? "a list" : `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
