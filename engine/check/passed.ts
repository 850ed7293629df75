// Which drivers passed the start-up check. The cache remembers it for the driver, its abilities, the versions of Dawn
// and Node, and the text of every kernel of the check: if any of them changes, the check runs again. A driver that did
// not pass is not remembered, so it is checked each time.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { z } from "zod";
import { composeWgsl } from "../backends/webgpu/compose.ts";
import { readJson, writeAtomic } from "../host/files.ts";
import { cacheFolder } from "../host/host-cache.ts";
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
  const path = passPath(digest);
  if (path === null || !existsSync(path)) return false;
  try {
    return readJson(path, passSchema).digest === digest;
  } catch {
    return false;
  }
}

/** Remembers that the driver passed. If the cache cannot be written, it is checked again next time. */
export function rememberPass(adapter: string, digest: string): void {
  const path = passPath(digest);
  if (path === null) return;
  try {
    writeAtomic(path, `${JSON.stringify({ schemaVersion: 1, adapter, digest }, null, 2)}\n`);
  } catch {
    // It costs a second.
  }
}

function passPath(digest: string): string | null {
  try {
    return join(cacheFolder("checks"), `${digest.slice(0, 16)}.json`);
  } catch {
    return null;
  }
}

/** The version of Dawn's package; "" if it cannot be read. */
function dawnVersion(): string {
  try {
    const found: unknown = createRequire(import.meta.url)("webgpu/package.json");
    return typeof found === "object" && found !== null && "version" in found ? String(found.version) : "";
  } catch {
    return "";
  }
}
