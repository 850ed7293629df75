// The data set that an environment's setting names: a file on this machine, or a data set of the Hugging Face hub.
import { existsSync } from "node:fs";
import { FileError } from "../../engine/host/index.ts";
import { type DatasetPart, isHubName, locateDataset } from "../../model/index.ts";
import type { EnvironmentFile } from "./environment.ts";
import { environmentFile } from "./environment-file.ts";
import type { OpenContext } from "./open-context.ts";
import { type DataRow, readRows } from "./rows.ts";

export interface WantedData extends DatasetPart {
  /** The setting that names the data: "data". Its digest is in the setting "dataSha256". */
  readonly setting: string;
  /** A .parquet, .jsonl or .json file, or a data set of the hub as ORG/NAME or ORG/NAME@REVISION. */
  readonly data: string;
  /** The digest that the settings give, empty for none. */
  readonly sha256: string;
  /** What the rows are, for messages. */
  readonly what: string;
  /** The columns that are needed, as `readParquetRows` has them; default all. */
  readonly columns?: readonly string[];
  /** What to do if one of them is missing. */
  readonly cure?: string;
}

export interface OpenedData {
  readonly rows: readonly DataRow[];
  /** The source of the rows, for messages. */
  readonly source: string;
  readonly file: EnvironmentFile;
  readonly isFromHub: boolean;
}

/**
 * Reads all rows. A file on this machine takes precedence over a data set of the same name.
 * @throws FileError when there is no such file or data set, it cannot be read, or has a different digest;
 *   NotAtHandError when it would have to be downloaded for a plan; CheckpointError when the hub refuses
 */
export async function openData(wanted: WantedData, context: OpenContext = {}): Promise<OpenedData> {
  const { setting, data, sha256, what, columns, cure } = wanted;
  const isFile = existsSync(data) || /\.(parquet|jsonl?)$/i.test(data);
  if (!isFile && !isHubName(data))
    throw new FileError(
      `${setting}: expected a file of ${what} (.parquet, .jsonl, .json), or a data set of the Hugging Face hub as ORG/NAME, ` +
        `got ${JSON.stringify(data)}.`,
    );
  if (isFile)
    return {
      rows: await readRows(data, { what, columns, cure }),
      source: data,
      isFromHub: false,
      file: environmentFile(setting, data, sha256),
    };
  const { progress, signal, isDryRun, hub } = context;
  const found = await locateDataset(data, wanted, {
    ...{ progress, signal },
    ...hub,
    environment: { ...(hub?.environment ?? process.env), ...(isDryRun === true && { HF_HUB_OFFLINE: "1" }) },
  });
  const rows: DataRow[] = [];
  for (const path of found.files)
    for (const row of await readRows(path, { what, columns, cure, mayBeEmpty: true })) rows.push(row);
  const source = `${found.name}, commit ${found.commit.slice(0, 12)}`;
  if (rows.length === 0) throw new FileError(`${source}: expected rows of ${what}, got none.`);
  return { rows, source, isFromHub: true, file: environmentFile(setting, found.files, sha256, source) };
}
