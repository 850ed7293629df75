// One file of a hub's repository into the cache's `blobs`, under the name of its hash.
//
// downloadFileToCacheDir of @huggingface/hub 2.17.5 is not enough: it starts from the beginning after a break, compares no
// hash, and lets two processes write one file. So the file is fetched by plain HTTP into `<etag>.incomplete`, the name that
// huggingface_hub for Python uses too. If that file exists, whichever program wrote it, the download resumes after its last
// byte (Range). The file gets its name only if the hash is right: a length alone cannot show that a part belongs to another
// file, or that two programs wrote it at once.
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
  /** SHA-256 of the content where it is in large file storage (LFS or Xet), else git's own hash of it. */
  readonly etag: string;
  readonly isLarge: boolean;
}

/** Runs `body`; what the disk refuses is told as a matter of the cache, which has its own way to another disk. */
export async function inCache<T>(path: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (thrown) {
    const refusal = thrown instanceof FileError ? thrown.cause : thrown;
    if (refusal instanceof Error && "code" in refusal && explainSystemError(refusal) !== null)
      throw new FileError(
        `${path}: the cache of models cannot be written: ${refusal.message}. Mend it, or set HF_HOME (or HF_HUB_CACHE) to ` +
          "another folder.",
        { cause: thrown },
      );
    throw thrown;
  }
}

/**
 * Downloads a file to `blob`, going on with `blob`.incomplete.
 * @param onBytes  how much of it is there, after each piece
 * @throws CheckpointError when the content is not what the listing says, twice; FileError when the disk refuses
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
          "Is something in between changing it?",
      );
  }
  await inCache(blob, () => {
    renameSync(incomplete, blob);
    syncFolder(dirname(blob));
  });
}

/** @returns the hash of the whole file, which is on the disk */
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
          // A whole file is as good from its start; another part is not.
          if (!isPart && response.status !== 200)
            throw new TransientError("sent another part of the file than asked for", 0);
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
