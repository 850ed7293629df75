// Rows of a Parquet file, as objects by the names of the columns. Numbers of the columns that hyparquet rounds are made right
// here: as an answer that is compared, 0.5700000000000001 is another number than 0.57.
import {
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { FileError } from "../../engine/host/index.ts";

type Row = Record<string, unknown>;
type Column = ReturnType<typeof parquetSchema>["children"][number];

/**
 * @param wanted  the columns that are needed, each by its name or, for a field of an object, as COLUMN.FIELD; default all
 * @param cure    what to do if one of them is missing
 * @throws FileError when a column is missing or there twice, or a number in it cannot be read exactly
 */
export async function readParquetRows(
  path: string,
  wanted: readonly string[] | undefined,
  cure: string,
): Promise<Row[]> {
  const file = await asyncBufferFromFile(path);
  const mark = file.byteLength < 12 ? "" : Buffer.from(await file.slice(file.byteLength - 4)).toString("latin1");
  if (mark !== "PAR1")
    throw new FileError(`${path}: is no whole Parquet file: it does not end in PAR1. Download or write it again.`);
  const metadata = await parquetMetadataAsync(file);
  const all = parquetSchema(metadata).children;
  const names = all.map(({ element }) => element.name);
  const columns = wanted?.map((name) => {
    const found = [name, name.split(".")[0]].find((one) => names.includes(one));
    if (found !== undefined) return found;
    throw new FileError(
      `${path}: expected a column ${JSON.stringify(name)}, got ${names.join(", ") || "none"}.${cure === "" ? "" : ` ${cure}`}`,
    );
  });
  const isRead = ({ element }: Column): boolean => columns?.includes(element.name) ?? true;
  const read = all.filter(isRead);
  const twice = read.find(({ element }, i) => read.findIndex((other) => other.element.name === element.name) < i);
  if (twice !== undefined)
    throw new FileError(`${path}: it has two columns ${JSON.stringify(twice.element.name)}. Rename one of them.`);
  const { compressors } = await import("hyparquet-compressors"); // loads WebAssembly, which other files do not need
  const readable = new Set(["UNCOMPRESSED", ...Object.keys(compressors)]);
  expectReadable(path, metadata, new Set(read.map(({ element }) => element.name)), readable);
  const rows: Row[] = await parquetReadObjects({ file, metadata, columns, compressors });
  for (const column of read) {
    const { name } = column.element;
    const exact = exactNumber(column);
    if (exact === null) continue;
    for (const [i, row] of rows.entries()) {
      const value = row[name];
      if (typeof value !== "number") continue;
      const found = exact(value);
      if (found === null)
        throw new FileError(
          `${path}: row ${i + 1}: ${name}: a decimal number of more than 15 digits (about ${value}) cannot be read exactly. ` +
            "Write the column as text.",
        );
      row[name] = found;
    }
  }
  return rows;
}

function expectReadable(
  path: string,
  { row_groups }: FileMetaData,
  columns: ReadonlySet<string>,
  readable: ReadonlySet<string>,
): void {
  for (const { columns: chunks } of row_groups)
    for (const { meta_data } of chunks)
      if (meta_data !== undefined && columns.has(meta_data.path_in_schema[0]) && !readable.has(meta_data.codec))
        throw new FileError(
          `${path}: its pages are compressed with ${meta_data.codec}, which is not supported. Write it again with zstd or snappy: ` +
            'pyarrow.parquet.write_table(table, path, compression="zstd").',
        );
}

/** What makes the numbers of a column exact again; null if they are. */
function exactNumber({ element }: Column): ((value: number) => string | number | null) | null {
  const { type, converted_type, scale = 0 } = element;
  // hyparquet multiplies the stored whole number by a power of ten. That rounds in the 16th digit, so fewer digits come back
  // by rounding once more. As text, they keep the column's places: 1234.50 is 1234.50.
  if (converted_type === "DECIMAL")
    return (value) => (Math.abs(value) * 10 ** scale < 1e15 ? value.toFixed(scale) : null);
  if (type === "FLOAT") return shortestFloat;
  return null;
}

/** The shortest decimal number that is this float32: 0.1 for 0.10000000149011612. */
function shortestFloat(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
