// Downloads one file of a hub repository into the cache's `blobs`, named by its hash.
//
// downloadFileToCacheDir of @huggingface/hub 2.17.5 is not enough: it restarts after a break, does not verify the hash,
// and lets two processes write one file. So the file is fetched by plain HTTP into `<etag>.incomplete`, the name that
// huggingface_hub for Python uses too. If that file exists, whichever program wrote it, the download resumes after its last
// byte (Range). The file gets its final name only if the hash is right: the length alone cannot show that a part
// belongs to another file, or that two programs wrote it at the same time.
import { createHash, type Hash } from "node:crypto";
import { renameSync, rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { CheckpointError, explainSystemError, FileError, syncFolder } from "../engine/host/index.ts";
import { type HubClient, TransientError } from "./hub-client.ts";

/** A file as the hub lists it. */
export interface RemoteFile {
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 of the content if it is in large file storage (LFS or Xet), else git's hash of it. */
  readonly etag: string;
  readonly isLarge: boolean;
}

/** Runs `body`. Disk errors become errors of the cache, whose message says how to move the cache to another disk. */
export async function inCache<T>(path: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (thrown) {
    const refusal = thrown instanceof FileError ? thrown.cause : thrown;
    if (refusal instanceof Error && "code" in refusal && explainSystemError(refusal) !== null)
      throw new FileError(
        `${path}: the cache of models cannot be written: ${refusal.message}. Fix this, or set HF_HOME (or HF_HUB_CACHE) to ` +
          "another folder.",
        { cause: thrown },
      );
    throw thrown;
  }
}

/**
 * Downloads a file to `blob`, resuming `blob`.incomplete.
 * @param onBytes  called after each piece with the bytes present so far
 * @throws CheckpointError when the content twice does not match the listing; FileError on a disk error
 */
export async function downloadBlob(
  client: HubClient,
  file: RemoteFile,
  url: string,
  blob: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  for (let round = 1; ; round++) {
    if ((await fill(client, file, url, incomplete, onBytes)) === file.etag) break;
    rmSync(incomplete, { force: true });
    if (round === 2)
      throw new CheckpointError(
        `${file.path}: what came from ${client.endpoint} does not have the hash that the hub lists, ${file.etag}, twice. ` +
          "Does a proxy change the file?",
      );
  }
  await inCache(blob, () => {
    renameSync(incomplete, blob);
    syncFolder(dirname(blob));
  });
}

/** @returns the hash of the whole file, which is then on the disk */
async function fill(
  client: HubClient,
  file: RemoteFile,
  url: string,
  incomplete: string,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const handle = await inCache(incomplete, () => open(incomplete, "a+"));
  let hash = startHash(file);
  let bytes = 0;
  let furthest = 0;
  const restart = async () => {
    await inCache(incomplete, () => handle.truncate(0));
    hash = startHash(file);
    bytes = 0;
    onBytes(0);
  };
  try {
    bytes = await inCache(incomplete, () => readInto(hash, handle));
    if (bytes > file.bytes) await restart();
    onBytes(bytes);
    while (bytes < file.bytes)
      await client.request(
        url,
        (): Record<string, string> => (bytes > 0 ? { range: `bytes=${bytes}-` } : {}),
        async (response, arrived) => {
          const isPart = response.status === 206 && rangeStart(response) === bytes;
          if (bytes > 0 && !isPart) await restart();
          // A server may answer with the whole file from its start, but not with a different part.
          if (!isPart && response.status !== 200)
            throw new TransientError("sent a different part of the file than requested", 0);
          for await (const piece of response.body ?? []) {
            if (bytes + piece.length > file.bytes)
              throw new CheckpointError(
                `${file.path}: expected ${file.bytes} bytes, as the hub lists, more came from ${url}.`,
              );
            await inCache(incomplete, () => handle.appendFile(piece));
            hash.update(piece);
            bytes += piece.length;
            arrived(bytes > furthest);
            furthest = Math.max(furthest, bytes);
            onBytes(bytes);
          }
          if (bytes < file.bytes) throw new TransientError("the connection ended before the file did");
        },
      );
    await inCache(incomplete, () => handle.sync());
  } finally {
    await handle.close();
  }
  return hash.digest("hex");
}

function startHash({ isLarge, bytes }: RemoteFile): Hash {
  return isLarge ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);
}

async function readInto(hash: Hash, handle: FileHandle): Promise<number> {
  const piece = Buffer.alloc(1 << 20);
  let at = 0;
  for (;;) {
    const { bytesRead } = await handle.read(piece, 0, piece.length, at);
    if (bytesRead === 0) return at;
    hash.update(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/** "bytes 100-199/200" → 100 */
function rangeStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1] ?? Number.NaN);
}
