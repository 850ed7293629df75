// The circumstances of a measurement, without which its numbers are worthless: command, adapter, driver, day, versions.
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import type { AdapterInfo } from "../engine/backends/webgpu/adapter.ts";

export interface Circumstances {
  command: string;
  /** null: the plain-TypeScript backend. */
  adapter: string | null;
  driver: string | null;
  processors: number;
  node: string;
  /** null outside a git checkout; "+" after the hash if files were changed since. */
  commit: string | null;
  date: string;
}

/** @param script  as it is typed: "bench/run.ts" */
export function circumstances(script: string, adapter: AdapterInfo | null): Circumstances {
  return {
    command: ["node", script, ...process.argv.slice(2)].join(" "),
    adapter: adapter?.name ?? null,
    driver: adapter?.driver ?? null,
    processors: cpus().length,
    node: process.versions.node,
    commit: commit(),
    date: new Date().toISOString(),
  };
}

function commit(): string | null {
  const git = (...words: string[]): string =>
    execFileSync("git", words, {
      cwd: new URL(".", import.meta.url),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    return `${git("rev-parse", "HEAD")}${git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+"}`;
  } catch {
    return null;
  }
}
