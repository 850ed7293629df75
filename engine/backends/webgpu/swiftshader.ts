// SwiftShader, a Vulkan driver that computes on the processor, for machines that have no Vulkan driver.
//
// The npm package @sparticuz/chromium carries Chromium's build of it together with a Vulkan loader, as a brotli-packed
// tar. Three files of it are unpacked once into the cache. Dawn finds the loader because it is already in the process
// (a library is found by its name, libvulkan.so.1), and the loader finds the driver by an environment variable.
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { AdapterError } from "../../errors.ts";
import { asError } from "../../host/errors.ts";
import { cacheFolder, cachePaths } from "../../host/host-cache.ts";

const packageName = "@sparticuz/chromium";
const driver = "libvk_swiftshader.so";
const loader = "libvulkan.so.1";
const manifest = "vk_swiftshader_icd.json";

/**
 * glibc's RTLD_NODELETE: Node closes a library that is not a Node addon; without this flag Dawn would then not find it.
 */
const RTLD_NODELETE = 0x1000;

/** The packed driver's path and version; or, as text, why there is none. */
export function findSwiftShader(): { archive: string; version: string } | string {
  if (process.platform !== "linux" || process.arch !== "x64")
    return `the SwiftShader of the npm packages is for Linux on x64, this is ${process.platform} on ${process.arch}`;
  const description = packageDescription();
  const mend = "run npm ci without --omit=optional";
  if (description === null) return `the optional package ${packageName} is not installed: ${mend}`;
  const archive = join(dirname(description), "bin", "swiftshader.tar.br");
  if (!existsSync(archive)) return `${archive} is missing: ${mend}`;
  const parsed: unknown = JSON.parse(readFileSync(description, "utf8"));
  const version =
    typeof parsed === "object" && parsed !== null && "version" in parsed ? String(parsed.version) : "unknown";
  return { archive, version };
}

/**
 * The package's package.json, in the folders where Node looks for packages of this file; null if it is not installed.
 */
function packageDescription(): string | null {
  const folders = createRequire(import.meta.url).resolve.paths(packageName) ?? [];
  return folders.map((folder) => join(folder, packageName, "package.json")).find((file) => existsSync(file)) ?? null;
}

/**
 * Unpacks the driver (once) and loads its Vulkan loader into the process.
 * @returns the path of the driver's manifest, for VK_DRIVER_FILES
 * @throws AdapterError if the package is missing or damaged, or its library cannot be loaded
 */
export function loadSwiftShader(): string {
  const found = findSwiftShader();
  if (typeof found === "string") throw new AdapterError(`swiftshader: ${found}.`);
  const folder = unpackOnce(found.archive, found.version);
  try {
    const { RTLD_NOW, RTLD_GLOBAL } = constants.dlopen;
    process.dlopen({ exports: {} }, join(folder, loader), RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
  } catch (thrown) {
    // Node says this of every library that is not a Node addon. The library is loaded by then and stays loaded.
    const { message } = asError(thrown);
    if (!message.includes("did not self-register"))
      throw new AdapterError(
        `swiftshader: ${join(folder, loader)} could not be loaded (${message}). If the folder is mounted noexec, ` +
          "set FOOTHOLD_CACHE to one that is not; if the file is damaged, delete the folder.",
      );
  }
  return join(folder, manifest);
}

/** The folder gets its final name only when complete, so that processes that start together never see half of it. */
function unpackOnce(archive: string, version: string): string {
  const ready = cachePaths("swiftshader", version).find((path) => existsSync(path));
  if (ready !== undefined) return ready;
  const parent = cacheFolder("swiftshader");
  const folder = join(parent, version);
  const partial = join(parent, `${version}.${process.pid}.partial`);
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial);
  try {
    const files = readTar(brotliDecompressSync(readFileSync(archive)));
    for (const name of [driver, loader, manifest]) {
      const bytes = files.get(name);
      if (bytes === undefined)
        throw new AdapterError(
          `swiftshader: ${archive}: expected ${name} inside, got ${[...files.keys()].join(", ")}. ` +
            "Install the version of the package that package-lock.json names: npm ci.",
        );
      writeDurably(join(partial, name), bytes);
    }
    renameSync(partial, folder);
  } catch (thrown) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw thrown; // else another process was first; its folder is equivalent
  }
  return folder;
}

function writeDurably(path: string, bytes: Uint8Array): void {
  const descriptor = openSync(path, "wx", 0o755);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Regular files of a tar archive (ustar or GNU, names up to 100 bytes): headers of 512 bytes, each followed by the
 * file, padded to a multiple of 512.
 * @throws AdapterError if the archive ends inside a file
 */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (start: number, length: number) =>
    new TextDecoder().decode(archive.subarray(start, start + length)).replace(/\0.*$/s, "");
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const start = at + 512;
    if (!(start + size <= archive.length))
      throw new AdapterError(
        `swiftshader: the archive is damaged at byte ${at}: a file of ${size} bytes does not fit.`,
      );
    const type = text(at + 156, 1);
    if (type === "0" || type === "")
      files.set(text(at, 100).replace(/^\.\//, ""), archive.subarray(start, start + size));
    at = start + Math.ceil(size / 512) * 512;
  }
  return files;
}
