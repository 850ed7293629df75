// Finds a model: a folder on disk, or a model on the Hugging Face hub by its name, ORG/NAME or ORG/NAME@REVISION.
//
// Files from the hub are stored in the cache of huggingface_hub for Python, in its layout, so that both programs use
// the same downloads:
//
//   models--ORG--NAME/refs/REVISION          the commit of a branch or tag when it was last requested
//   models--ORG--NAME/blobs/HASH             contents
//   models--ORG--NAME/snapshots/COMMIT/FILE  links to contents; copies where the file system has no links
//
// A file appears in `snapshots` only when it is whole, and a ref names a commit only when all of its files exist. One
// process at a time fetches a model. Node cannot take Python's lock (flock); if both programs write one file at the
// same time, the hash check detects it (hub-download.ts).
//
// @huggingface/hub is used to get the commit and the list of files. Its snapshotDownload would fetch the whole
//   repository.
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import {
  CheckpointError,
  ensureFolder,
  FileError,
  formatBytes,
  freeDiskBytes,
  lockFolder,
  type Progress,
  RunFolderError,
  writeAtomic,
} from "../engine/host/index.ts";
import { adapterConfigFile, indexFile, isWhole, shardsOf, tokenizerFiles, weightsFile } from "./checkpoint-files.ts";
import {
  type ClientOptions,
  expanded,
  HubClient,
  type HubEnvironment,
  HubUnreachableError,
  hubHome,
  isOn,
} from "./hub-client.ts";
import { downloadBlob, inCache, type RemoteFile } from "./hub-download.ts";

export interface LocatedModel {
  readonly folder: string;
  /** The name of the folder, or ORG/NAME on the hub. */
  readonly name: string;
  /** The commit on the hub, which identifies the files; null for a folder. */
  readonly commit: string | null;
  readonly source: "folder" | "hub";
}

export interface LocateOptions extends ClientOptions {
  progress?: Progress;
  /** Whether weights are fetched. Default true; false if only the configuration and the tokenizer are needed. */
  weights?: boolean;
  /** False to copy files instead of linking them, as on a file system without links. */
  links?: boolean;
  /** How long another process may hold the lock of a model without fetching anything. Default 5 minutes. */
  lockPatienceMs?: number;
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
  const cache = cacheOf(environment);
  const storage = join(cache, `models--${wanted.name.replace("/", "--")}`);
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
      `${pathOrName}: neither a folder here nor complete in the cache of models, ${cache}, and HF_HUB_OFFLINE forbids ` +
        "downloads. Unset HF_HUB_OFFLINE once, or copy the cache from another machine.",
    );
  }
  const client = new HubClient(pathOrName, options);
  let commit: string;
  let files: RemoteFile[];
  try {
    ({ commit, files } = await askHub(client, wanted));
  } catch (thrown) {
    if (cached === null || !(thrown instanceof CheckpointError)) throw thrown;
    if (!(thrown instanceof HubUnreachableError))
      throw new CheckpointError(`${thrown.message} The cache has a copy: HF_HUB_OFFLINE=1 uses it.`, {
        cause: thrown,
      });
    progress?.line(`${thrown.message}\nUsing the copy in the cache, commit ${cached}.`);
    return found(cached);
  }
  const snapshot: Snapshot = { client, name: wanted.name, storage, commit, options };
  await fetchSnapshot(snapshot, files, weights);
  if (wanted.revision !== commit) await writeRef(join(storage, "refs", wanted.revision), commit);
  return found(commit);
}

interface Wanted {
  name: string;
  revision: string;
}

/**
 * Parses a name by Python's rules; null if it is not one. A revision becomes a path in the cache and must stay inside
 * it.
 */
function parseName(text: string): Wanted | null {
  const [, name, revision = "main"] = /^(\b[\w.-]+\b\/\b[\w.-]+\b)(?:@(.+))?$/.exec(text) ?? [];
  if (name === undefined || name.length > 96 || /--|\.\.|\.git$/.test(name)) return null;
  if (!/^[\w.+-]+(\/[\w.+-]+)*$/.test(revision) || revision.includes("..")) return null;
  return { name, revision };
}

// The package's getHFHubCachePath does not expand ~ or $NAME in these variables.
function cacheOf(environment: HubEnvironment): string {
  const chosen = environment["HF_HUB_CACHE"] ?? environment["HUGGINGFACE_HUB_CACHE"];
  return resolve(expanded(chosen ?? join(hubHome(environment), "hub"), environment));
}

const commitHash = /^[0-9a-f]{40}$/;

/** The commit of a revision whose snapshot can be opened, null when there is none. */
async function cachedCommit(storage: string, revision: string, weights: boolean): Promise<string | null> {
  const ref = join(storage, "refs", revision);
  const commit = commitHash.test(revision) ? revision : existsSync(ref) ? readFileSync(ref, "utf8").trim() : "";
  if (!commitHash.test(commit)) return null;
  return (await isWhole(join(storage, "snapshots", commit), weights)) ? commit : null;
}

const listed = z.object({
  path: z.string(),
  size: z.int().nonnegative(),
  oid: z.string().regex(commitHash),
  lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }).optional(),
});

async function askHub(client: HubClient, { name, revision }: Wanted): Promise<{ commit: string; files: RemoteFile[] }> {
  // Imported here, because most commands never use the hub.
  const { listFiles, modelInfo } = await import("@huggingface/hub");
  const common = { hubUrl: client.endpoint, fetch: client.fetch };
  const { sha: commit } = await modelInfo({ ...common, name, revision, additionalFields: ["sha"] });
  if (!commitHash.test(commit))
    throw new CheckpointError(`${name}: expected ${client.endpoint} to give a commit, got ${JSON.stringify(commit)}.`);
  const files: RemoteFile[] = [];
  for await (const entry of listFiles({ ...common, repo: { type: "model", name }, revision: commit })) {
    if (entry.type !== "file" || basename(entry.path) !== entry.path) continue; // nothing outside the snapshot
    const parsed = listed.safeParse(entry);
    if (!parsed.success)
      throw new CheckpointError(
        `${name}: the listing of ${JSON.stringify(entry.path)} by ${client.endpoint} is not understood.`,
      );
    const { path, size, oid, lfs } = parsed.data;
    files.push({ path, bytes: lfs?.size ?? size, etag: lfs?.oid ?? oid, isLarge: lfs !== undefined });
  }
  return { commit, files };
}

interface Snapshot {
  client: HubClient;
  name: string;
  storage: string;
  commit: string;
  options: LocateOptions;
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

function folderOf({ storage, commit }: Snapshot): string {
  return join(storage, "snapshots", commit);
}

async function fetchFiles(snapshot: Snapshot, files: readonly RemoteFile[]): Promise<void> {
  // A link whose content is gone does not exist for existsSync.
  const lacking = () => files.filter(({ path }) => !existsSync(join(folderOf(snapshot), path)));
  if (lacking().length === 0) return;
  const release = await lock(snapshot);
  try {
    const blobs = join(snapshot.storage, "blobs");
    await inCache(blobs, () => {
      ensureFolder(blobs);
      ensureFolder(folderOf(snapshot));
    });
    // Checked again: the process that had the lock may have fetched some files.
    const todo = lacking().map((file) => ({ ...file, blob: join(blobs, file.etag) }));
    const toFetch = todo.filter(({ blob }) => !existsSync(blob));
    const total = toFetch.reduce((sum, { bytes }) => sum + bytes, 0);
    const before = toFetch.reduce(
      (sum, { blob, bytes }) => sum + Math.min(bytesOnDisk(`${blob}.incomplete`), bytes),
      0,
    );
    expectSpace(blobs, total - before);
    const counter = countMegabytes(snapshot, total, before);
    for (const { blob, ...file } of todo) {
      const isNew = !existsSync(blob);
      if (isNew) {
        const { client, name, commit } = snapshot;
        const url = `${client.endpoint}/${name}/resolve/${commit}/${encodeURIComponent(file.path)}`;
        const already = Math.min(bytesOnDisk(`${blob}.incomplete`), file.bytes);
        await downloadBlob(client, file, url, blob, (bytes) => counter.show(bytes - already, file.path));
        counter.next(file.bytes - already);
      }
      await inCache(snapshot.storage, () =>
        place(blob, join(folderOf(snapshot), file.path), isNew, snapshot.options.links),
      );
    }
    counter.done();
  } finally {
    release();
  }
}

/**
 * Gives a blob its file name, as Python does: by a relative link. Without links, a new blob is moved, an old one
 * copied.
 */
function place(blob: string, path: string, isNew: boolean, links = true): void {
  rmSync(path, { force: true }); // a link whose content is gone
  if (links)
    try {
      symlinkSync(relative(dirname(path), blob), path);
      return;
    } catch {
      // this file system, or this Windows user, cannot make links
    }
  if (isNew) {
    renameSync(blob, path);
    return;
  }
  const part = `${path}.incomplete`;
  copyFileSync(blob, part);
  renameSync(part, path);
}

function countMegabytes({ name, options: { progress } }: Snapshot, totalBytes: number, beforeBytes: number) {
  if (progress === undefined || totalBytes === 0) return { show() {}, next() {}, done() {} };
  const megabytes = (bytes: number) => Math.floor(bytes / 1e6);
  let shown = megabytes(beforeBytes);
  let done = beforeBytes;
  const phase = progress.phase(`fetching ${name}`, Math.ceil(totalBytes / 1e6), "MB", shown);
  const advanceTo = (value: number, note?: string) => {
    phase.advance(value - shown, note);
    shown = value;
  };
  return {
    /** @param bytes  of the current file, beyond those that existed before */
    show: (bytes: number, note: string) => advanceTo(megabytes(done + bytes), note),
    next(bytes: number) {
      done += bytes;
    },
    done() {
      advanceTo(Math.ceil(totalBytes / 1e6));
      phase.done();
    },
  };
}

function bytesOnDisk(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function expectSpace(folder: string, bytes: number): void {
  const free = freeDiskBytes(folder);
  if (bytes > free)
    throw new FileError(
      `${folder}: fetching needs ${formatBytes(bytes)} of disk, ${formatBytes(free)} are free. Free some, or set HF_HOME ` +
        "(or HF_HUB_CACHE) to a folder on another disk.",
    );
}

/** Waits while another process fetches this model. */
async function lock({ storage, name, options }: Snapshot): Promise<() => void> {
  const { progress, signal, lockPatienceMs = 300_000 } = options;
  const folder = join(dirname(storage), ".locks", basename(storage), "foothold");
  const state = () =>
    existsSync(join(storage, "blobs"))
      ? readdirSync(join(storage, "blobs"))
          .map((blob) => `${blob} ${bytesOnDisk(join(storage, "blobs", blob))}`)
          .join()
      : "";
  let last: string | null = null;
  let sinceMs = 0;
  for (;;) {
    try {
      return await inCache(folder, () => lockFolder(folder));
    } catch (thrown) {
      if (!(thrown instanceof RunFolderError)) throw thrown;
      const now = state();
      if (last === null) progress?.line(`${name}: another process is fetching this model; waiting for it.`);
      if (now !== last) sinceMs = performance.now();
      last = now;
      if (performance.now() - sinceMs > lockPatienceMs)
        throw new FileError(
          `${join(folder, ".lock")}: another process has this lock and has fetched nothing of ${name} for ` +
            `${Math.round(lockPatienceMs / 1000)} s. Stop that process; if it has ended, delete this file.`,
        );
      await sleep(200, undefined, { signal });
    }
  }
}

/** Ignores write errors: the ref is needed only when the hub cannot be reached. */
async function writeRef(path: string, commit: string): Promise<void> {
  try {
    if (existsSync(path) && readFileSync(path, "utf8").trim() === commit) return;
    ensureFolder(dirname(path));
    writeAtomic(path, commit);
  } catch (thrown) {
    if (!(thrown instanceof FileError)) throw thrown;
  }
}
