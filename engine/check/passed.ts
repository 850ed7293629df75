// Which drivers passed the start-up check. The cache remembers it for the driver, its abilities, the versions of Dawn
// and Node, and the text of every kernel of the check: if any of them changes, the check runs again. A driver that did
// not pass is not remembered, so it is checked each time.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { z } from "zod";
import { composeWgsl } from "../backends/webgpu/compose.ts";
import { asSentence } from "../backends/webgpu/failures.ts";
import { sayOnce } from "../backends/webgpu/say-once.ts";
import { asError } from "../host/errors.ts";
import { readJson, writeAtomic } from "../host/files.ts";
import { cacheFolder, cachePaths } from "../host/host-cache.ts";
import type { TileChoice } from "../ops/matmul/tiles.ts";
import { casesFile } from "./cases.ts";
import { checkForms, type Meant } from "./check.ts";

const passSchema = z.object({ schemaVersion: z.literal(1), adapter: z.string(), digest: z.string() });

/** Names everything that the answer of the check depends on. */
export function checkDigest(meant: Meant, tiles: TileChoice): string {
  const { description, style, abilities } = meant;
  const hash = createHash("sha256");
  hash.update(JSON.stringify([description, style, abilities, dawnVersion(), process.version]));
  hash.update(readFileSync(casesFile));
  for (const { kernel, constants } of checkForms(meant, tiles))
    hash.update(`${kernel.name}\n${composeWgsl(kernel, constants)}\n`);
  return hash.digest("hex");
}

/** Whether the cache says that this driver passed. A damaged file says nothing. */
export function hasPassed(digest: string): boolean {
  return cachePaths(folderName, fileOf(digest)).some((path) => {
    try {
      return readJson(path, passSchema).digest === digest;
    } catch {
      return false;
    }
  });
}

/** Remembers that the driver passed. If the cache cannot be written, that is said once: the driver is checked again next time. */
export function rememberPass(adapter: string, digest: string): void {
  try {
    const path = join(cacheFolder(folderName), fileOf(digest));
    writeAtomic(path, `${JSON.stringify({ schemaVersion: 1, adapter, digest }, null, 2)}\n`);
  } catch (thrown) {
    sayOnce(
      `${adapter} passed the start-up check, but that cannot be noted in the cache, so each start checks it again: ` +
        asSentence(asError(thrown).message),
    );
  }
}

const folderName = "checks";

const fileOf = (digest: string): string => `${digest.slice(0, 16)}.json`;

/** The version of Dawn's package; "" if it cannot be read. */
function dawnVersion(): string {
  try {
    const found: unknown = createRequire(import.meta.url)("webgpu/package.json");
    return typeof found === "object" && found !== null && "version" in found ? String(found.version) : "";
  } catch {
    return "";
  }
}
