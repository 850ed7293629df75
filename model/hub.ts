// Finds a model: a folder on disk, or a model on the Hugging Face hub by its name, ORG/NAME or ORG/NAME@REVISION. Files from
// the hub are in a cache (hub-snapshot.ts).
import { statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { CheckpointError } from "../engine/host/index.ts";
import { adapterConfigFile, indexFile, isWhole, shardsOf, tokenizerFiles, weightsFile } from "./checkpoint-files.ts";
import { HubClient, HubUnreachableError, isOn } from "./hub-client.ts";
import type { RemoteFile } from "./hub-download.ts";
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

export interface LocatedModel {
  readonly folder: string;
  /** The name of the folder, or ORG/NAME on the hub. */
  readonly name: string;
  /** The commit on the hub, which identifies the files; null for a folder. */
  readonly commit: string | null;
  readonly source: "folder" | "hub";
}

export interface LocateOptions extends FetchOptions {
  /** Whether weights are fetched. Default true; false if only the configuration and the tokenizer are needed. */
  weights?: boolean;
}

/** Options under which `locateModel` sends no request and downloads nothing: the model is a folder or in the cache. */
export function withoutDownload(): Pick<LocateOptions, "environment"> {
  return { environment: { ...process.env, HF_HUB_OFFLINE: "1" } };
}

/**
 * The folder of a model. A folder on disk takes precedence over a hub model of the same name. For a hub model it
 * requests the commit and fetches the files that the cache lacks. If the hub cannot be reached or HF_HUB_OFFLINE is
 * set, it uses the cache.
 * @throws CheckpointError when there is no such folder or hub model, or the hub refuses; FileError when the cache
 *   cannot be written
 */
export async function locateModel(pathOrName: string, options: LocateOptions = {}): Promise<LocatedModel> {
  const onDisk = statSync(pathOrName, { throwIfNoEntry: false });
  if (onDisk?.isDirectory())
    return { folder: pathOrName, name: basename(resolve(pathOrName)), commit: null, source: "folder" };
  const wanted = onDisk === undefined ? parseName(pathOrName) : null;
  if (wanted === null)
    throw new CheckpointError(
      `${pathOrName}: expected a model folder, or a model of the Hugging Face hub as ORG/NAME or ORG/NAME@REVISION; ${
        onDisk === undefined ? "there is no such folder" : "this is a file"
      }. Check the path.`,
    );
  const { environment = process.env, weights = true, progress } = options;
  const storage = storageOf(environment, "model", wanted.name);
  const found = (commit: string): LocatedModel => ({
    folder: join(storage, "snapshots", commit),
    name: wanted.name,
    commit,
    source: "hub",
  });
  const cached = await cachedCommit(storage, wanted.revision, weights);
  if (isOn(environment["HF_HUB_OFFLINE"] || environment["TRANSFORMERS_OFFLINE"])) {
    if (cached !== null) return found(cached);
    throw new CheckpointError(
      `${pathOrName}: neither a folder here nor complete in the cache of models, ${cacheOf(environment)}, and nothing is downloaded ` +
        "(HF_HUB_OFFLINE, or a dry run). Check the path; or download it once without that, or copy the cache from another machine.",
    );
  }
  const client = new HubClient(pathOrName, options);
  let commit: string;
  let files: RemoteFile[];
  try {
    ({ commit, files } = await askHub(client, "model", wanted));
  } catch (thrown) {
    if (cached === null || !(thrown instanceof CheckpointError)) throw thrown;
    if (!(thrown instanceof HubUnreachableError))
      throw new CheckpointError(`${thrown.message} The cache has a copy: HF_HUB_OFFLINE=1 uses it.`, {
        cause: thrown,
      });
    progress?.line(`${thrown.message}\nUsing the copy in the cache, commit ${cached}.`);
    return found(cached);
  }
  const snapshot: Snapshot = { client, kind: "model", name: wanted.name, storage, commit, options };
  await fetchSnapshot(snapshot, files, weights);
  if (wanted.revision !== commit) await writeRef(join(storage, "refs", wanted.revision), commit);
  return found(commit);
}

/** The commit of a revision whose snapshot can be opened, null when there is none. */
async function cachedCommit(storage: string, revision: string, weights: boolean): Promise<string | null> {
  const commit = knownCommit(storage, revision);
  return commit !== null && (await isWhole(join(storage, "snapshots", commit), weights)) ? commit : null;
}

/** Fetches the files that the snapshot lacks: configuration, tokenizer and, if wanted, weights as safetensors. */
async function fetchSnapshot(snapshot: Snapshot, files: readonly RemoteFile[], weights: boolean): Promise<void> {
  const { client, name, commit } = snapshot;
  const where = `${client.endpoint}/${name}, commit ${commit}`;
  const byPath = new Map(files.map((file) => [file.path, file]));
  const file = (path: string): RemoteFile => {
    const found = byPath.get(path);
    if (found === undefined)
      throw new CheckpointError(`${where}: expected the file ${path}, there is none. Is this repository a model?`);
    return found;
  };
  if (!byPath.has("config.json") && byPath.has(adapterConfigFile))
    throw new CheckpointError(
      `${where}: this is a LoRA adapter, not a model. Download it into a folder (hf download ${name} --local-dir DIR) and merge ` +
        "it into its base model: node model/export.ts --model DIR --out MERGED",
    );
  const small = ["config.json", "generation_config.json", ...tokenizerFiles];
  const chosen = [file("config.json"), ...files.filter(({ path }) => small.includes(path) && path !== "config.json")];
  if (weights && byPath.has(weightsFile)) chosen.push(file(weightsFile));
  else if (weights && byPath.has(indexFile)) {
    await fetchFiles(snapshot, [file(indexFile)]);
    for (const shard of shardsOf(join(folderOf(snapshot), indexFile))) chosen.push(file(shard));
  } else if (weights)
    throw new CheckpointError(
      `${where}: expected ${weightsFile} or ${indexFile}, found neither. Only safetensors are read: convert the model.`,
    );
  await fetchFiles(snapshot, chosen);
}
