// Known answers of this folder: JSON made by the Python script named in each file's test.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function knownPath(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

/** The caller names the type it expects. */
export function readKnown<T>(name: string): T {
  return JSON.parse(readFileSync(knownPath(name), "utf8")) as T;
}
