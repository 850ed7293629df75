// A file that an environment reads affects the results of a run, so the run records its SHA-256.
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { FileError, sha256File } from "../../engine/host/index.ts";
import type { EnvironmentFile } from "./environment.ts";

/**
 * A file that a setting names, with its SHA-256. A second setting, `SETTINGSha256`, holds the digest in a run's
 * config.toml, so that the study cannot continue with a different file. Several files, the parts of one data set, have one
 * digest: that of the list of theirs, in the format of sha256sum.
 * @param expected  the digest that the settings give, empty for none
 * @param name      what messages call it; default its path
 * @throws FileError when the file cannot be read or has a different digest
 */
export function environmentFile(
  setting: string,
  path: string | readonly string[],
  expected: string,
  name?: string,
): EnvironmentFile {
  const paths = typeof path === "string" ? [path] : path;
  const sums = paths.map(sha256File);
  const lines = sums.map((sum, i) => `${sum}  ${basename(paths[i])}\n`).join("");
  const sha256 = sums.length === 1 ? sums[0] : createHash("sha256").update(lines).digest("hex");
  const called = name ?? paths.join(", ");
  if (expected !== "" && expected !== sha256)
    throw new FileError(
      `${called}: not the file of the settings: expected SHA-256 ${expected.slice(0, 12)}… (${setting}Sha256), got ` +
        `${sha256.slice(0, 12)}…. Give the file that the study was made with, or leave ${setting}Sha256 empty for a new study.`,
    );
  return { setting, path: called, sha256 };
}
