// A snapshot of a repository on the Hugging Face hub, a model or a data set, in the cache of huggingface_hub for Python, in
// its layout, so that both programs use the same downloads:
//
//   models--ORG--NAME/refs/REVISION          the commit of a branch or tag when it was last requested
//   models--ORG--NAME/blobs/HASH             contents
//   models--ORG--NAME/snapshots/COMMIT/FILE  links to contents; copies where the file system has no links
//   datasets--ORG--NAME/…                    the same for a data set
//
// A file appears in `snapshots` only when it is whole, and a ref names a commit only when all of its files exist. One
// process at a time fetches a repository. Node cannot take Python's lock (flock); if both programs write one file at the
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
import { type ClientOptions, expanded, type HubClient, type HubEnvironment, hubHome } from "./hub-client.ts";
import { downloadBlob, inCache, type RemoteFile } from "./hub-download.ts";

/** What a repository holds. */
export type HubKind = "model" | "dataset";

export interface FetchOptions extends ClientOptions {
  progress?: Progress;
  /** False to copy files instead of linking them, as on a file system without links. */
  links?: boolean;
  /** How long another process may hold the lock of a model without fetching anything. Default 5 minutes. */
  lockPatienceMs?: number;
}

export interface Wanted {
  name: string;
  revision: string;
}

/**
 * Parses a name by Python's rules; null if it is not one. A revision becomes a path in the cache and must stay inside
 * it.
 */
export function parseName(text: string): Wanted | null {
  const [, name, revision = "main"] = /^(\b[\w.-]+\b\/\b[\w.-]+\b)(?:@(.+))?$/.exec(text) ?? [];
  if (name === undefined || name.length > 96 || /--|\.\.|\.git$/.test(name)) return null;
  if (!/^[\w.+-]+(\/[\w.+-]+)*$/.test(revision) || revision.includes("..")) return null;
  return { name, revision };
}

// The package's getHFHubCachePath does not expand ~ or $NAME in these variables.
export function cacheOf(environment: HubEnvironment): string {
  const chosen = environment["HF_HUB_CACHE"] ?? environment["HUGGINGFACE_HUB_CACHE"];
  return resolve(expanded(chosen ?? join(hubHome(environment), "hub"), environment));
}

export const commitHash = /^[0-9a-f]{40}$/;

/** The folder of a repository in the cache. */
export function storageOf(environment: HubEnvironment, kind: HubKind, name: string): string {
  return join(cacheOf(environment), `${kind}s--${name.replace("/", "--")}`);
}

/** The commit that a revision had when it was last requested; null if that is not known. */
export function knownCommit(storage: string, revision: string): string | null {
  const ref = join(storage, "refs", revision);
  const commit = commitHash.test(revision) ? revision : existsSync(ref) ? readFileSync(ref, "utf8").trim() : "";
  return commitHash.test(commit) ? commit : null;
}

const listed = z.object({
  path: z.string(),
  size: z.int().nonnegative(),
  oid: z.string().regex(commitHash),
  lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }).optional(),
});

/** The commit of a revision, and its files: those of the whole tree for a data set, of its top folder for a model. */
export async function askHub(
  client: HubClient,
  kind: HubKind,
  { name, revision }: Wanted,
): Promise<{ commit: string; files: RemoteFile[] }> {
  // Imported here, because most commands never use the hub.
  const { datasetInfo, listFiles, modelInfo } = await import("@huggingface/hub");
  const common = { hubUrl: client.endpoint, fetch: client.fetch };
  const { sha: commit } = await (kind === "model"
    ? modelInfo({ ...common, name, revision, additionalFields: ["sha"] })
    : datasetInfo({ ...common, name, revision, additionalFields: ["sha"] }));
  if (!commitHash.test(commit))
    throw new CheckpointError(`${name}: expected ${client.endpoint} to give a commit, got ${JSON.stringify(commit)}.`);
  const files: RemoteFile[] = [];
  for await (const entry of listFiles({
    ...common,
    repo: { type: kind, name },
    revision: commit,
    recursive: kind === "dataset",
  })) {
    if (entry.type !== "file" || !isInside(entry.path, kind)) continue;
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

/** Whether a path stays in the snapshot; a model's files lie in its top folder. */
function isInside(path: string, kind: HubKind): boolean {
  return kind === "model"
    ? basename(path) === path
    : path.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !/[\\:]/.test(part));
}

export interface Snapshot {
  client: HubClient;
  kind: HubKind;
  name: string;
  storage: string;
  commit: string;
  options: FetchOptions;
}

export function folderOf({ storage, commit }: Snapshot): string {
  return join(storage, "snapshots", commit);
}

export async function fetchFiles(snapshot: Snapshot, files: readonly RemoteFile[]): Promise<void> {
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
        const { client, kind, name, commit } = snapshot;
        const repository = kind === "model" ? name : `datasets/${name}`;
        const path = file.path.split("/").map(encodeURIComponent).join("/");
        const url = `${client.endpoint}/${repository}/resolve/${commit}/${path}`;
        const already = Math.min(bytesOnDisk(`${blob}.incomplete`), file.bytes);
        await downloadBlob(client, file, url, blob, (bytes) => counter.show(bytes - already, file.path));
        counter.next(file.bytes - already);
      }
      const target = join(folderOf(snapshot), file.path);
      await inCache(snapshot.storage, () => {
        ensureFolder(dirname(target));
        place(blob, target, isNew, snapshot.options.links);
      });
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

/** Waits while another process fetches this repository. */
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
      if (last === null) progress?.line(`${name}: another process is fetching it; waiting for it.`);
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
export async function writeRef(path: string, commit: string): Promise<void> {
  try {
    if (existsSync(path) && readFileSync(path, "utf8").trim() === commit) return;
    ensureFolder(dirname(path));
    writeAtomic(path, commit);
  } catch (thrown) {
    if (!(thrown instanceof FileError)) throw thrown;
  }
}
