// Finds the files of a data set on the Hugging Face hub: those of one configuration and split. They are in the same cache
// as models (hub-snapshot.ts).
import { existsSync, readdirSync } from "node:fs";
import { extname, join, sep } from "node:path";
import { CheckpointError, FileError } from "../engine/host/index.ts";
import { HubClient, HubUnreachableError, isOn } from "./hub-client.ts";
import {
  askHub,
  cacheOf,
  type FetchOptions,
  fetchFiles,
  folderOf,
  knownCommit,
  parseName,
  type Snapshot,
  storageOf,
  writeRef,
} from "./hub-snapshot.ts";

export interface LocatedDataset {
  readonly name: string;
  readonly commit: string;
  /** The paths of the files on this machine, in the order of the rows. */
  readonly files: readonly string[];
}

export interface DatasetPart {
  /** The hub calls it a subset or config; "default" if a data set has one only. */
  readonly config: string;
  readonly split: string;
}

/** Whether a text can name a data set of the hub: ORG/NAME or ORG/NAME@REVISION. */
export function isHubName(text: string): boolean {
  return parseName(text) !== null;
}

const dataFiles = [".parquet", ".jsonl", ".json"];

/**
 * The files of a configuration and split among the paths of a repository, sorted. The first of these places that has any,
 * each as .parquet, else .jsonl, else .json:
 *   CONFIG/SPLIT-00000-of-00001.parquet   CONFIG/SPLIT.parquet
 *   CONFIG/SPLIT/0000.parquet             (the hub's own conversion, revision refs/convert/parquet)
 * and, for the configuration "default", the same in the folder data/ and in the top folder.
 */
export function datasetFiles(paths: readonly string[], { config, split }: DatasetPart): string[] {
  const folders = [`${config}/`, ...(config === "default" ? ["data/", ""] : [])];
  for (const folder of folders)
    for (const ending of dataFiles) {
      const found = paths.filter((path) => {
        if (!path.startsWith(folder) || extname(path) !== ending) return false;
        const rest = path.slice(folder.length, -ending.length);
        return rest === split || new RegExp(`^${escaped(split)}(-\\d+-of-\\d+|/[^/]+)$`).test(rest);
      });
      if (found.length > 0) return found.sort();
    }
  return [];
}

/**
 * The files of a data set on the hub, fetched if the cache lacks them. If the hub cannot be reached or HF_HUB_OFFLINE is
 * set, it uses the cache.
 * @param name  ORG/NAME or ORG/NAME@REVISION
 * @throws FileError when the name is none, or there are no such files; CheckpointError when the hub refuses
 */
export async function locateDataset(
  name: string,
  part: DatasetPart,
  options: FetchOptions = {},
): Promise<LocatedDataset> {
  const wanted = parseName(name);
  if (wanted === null)
    throw new FileError(`${name}: expected a data set of the Hugging Face hub as ORG/NAME or ORG/NAME@REVISION.`);
  const { environment = process.env, progress } = options;
  const storage = storageOf(environment, "dataset", wanted.name);
  const cached = cachedFiles(storage, wanted.revision, part);
  const found = ({ commit, files }: Cached): LocatedDataset => ({
    ...{ name: wanted.name, commit },
    files: files.map((path) => join(storage, "snapshots", commit, path)),
  });
  if (isOn(environment["HF_HUB_OFFLINE"] || environment["HF_DATASETS_OFFLINE"])) {
    if (cached !== null) return found(cached);
    throw new NotAtHandError(
      `${name}: neither a file here nor in the cache of data sets, ${cacheOf(environment)}, and downloads are off ` +
        "(HF_HUB_OFFLINE, or a dry run). Fetch it once, or copy the cache from another machine.",
    );
  }
  const client = new HubClient(name, { ...options, what: "data set" });
  let answer: Awaited<ReturnType<typeof askHub>>;
  try {
    answer = await askHub(client, "dataset", wanted);
  } catch (thrown) {
    if (cached === null || !(thrown instanceof HubUnreachableError)) throw thrown;
    progress?.line(`${thrown.message}\nUsing the copy in the cache, commit ${cached.commit}.`);
    return found(cached);
  }
  const { commit } = answer;
  const files = datasetFiles(
    answer.files.map(({ path }) => path),
    part,
  );
  if (files.length === 0)
    throw noFiles(`${client.endpoint}/datasets/${wanted.name}, commit ${commit}`, part, answer.files);
  const snapshot: Snapshot = { client, kind: "dataset", name: wanted.name, storage, commit, options };
  await fetchFiles(
    snapshot,
    answer.files.filter(({ path }) => files.includes(path)),
  );
  if (wanted.revision !== commit) await writeRef(join(storage, "refs", wanted.revision), commit);
  return { name: wanted.name, commit, files: files.map((path) => join(folderOf(snapshot), path)) };
}

/** The data set is not on this machine, and downloads are off. */
export class NotAtHandError extends CheckpointError {
  override name = "NotAtHandError";
}

interface Cached {
  readonly commit: string;
  readonly files: readonly string[];
}

function cachedFiles(storage: string, revision: string, part: DatasetPart): Cached | null {
  const commit = knownCommit(storage, revision);
  const folder = commit === null ? "" : join(storage, "snapshots", commit);
  if (commit === null || !existsSync(folder)) return null;
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((path) => path.split(sep).join("/"))
    .filter((path) => existsSync(join(folder, path))); // a link whose content is gone
  const files = datasetFiles(paths, part);
  return files.length === 0 || lacksShards(files) ? null : { commit, files };
}

/** Whether a download ended before its last file: names tell how many there are. */
function lacksShards(files: readonly string[]): boolean {
  const count = Number(/-of-0*(\d+)\.\w+$/.exec(files[0])?.[1] ?? files.length);
  return files.length !== count;
}

function noFiles(
  where: string,
  { config, split }: DatasetPart,
  files: readonly { readonly path: string }[],
): FileError {
  const present = files.map(({ path }) => path).filter((path) => dataFiles.includes(extname(path)));
  const list = present.slice(0, 12).join(", ") + (present.length > 12 ? ", …" : "");
  return new FileError(
    `${where}: no data files of the configuration ${JSON.stringify(config)} and the split ${JSON.stringify(split)}. ` +
      (present.length === 0
        ? "It has no Parquet or JSONL files; the revision refs/convert/parquet of a data set often has."
        : `Its data files: ${list}.`),
  );
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
