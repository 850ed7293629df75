// A file that an environment reads affects the results of a run, so the run records its SHA-256.
import { FileError, sha256File } from "../../engine/host/index.ts";
import type { EnvironmentFile } from "./environment.ts";

/**
 * A file that a setting names, with its SHA-256. A second setting, `SETTINGSha256`, holds the digest in a run's
 * config.toml, so that the study cannot continue with a different file.
 * @param expected  the digest that the settings give, empty for none
 * @throws FileError when the file cannot be read or has a different digest
 */
export function environmentFile(setting: string, path: string, expected: string): EnvironmentFile {
  const sha256 = sha256File(path);
  if (expected !== "" && expected !== sha256)
    throw new FileError(
      `${path}: not the file of the settings: expected SHA-256 ${expected.slice(0, 12)}… (${setting}Sha256), got ` +
        `${sha256.slice(0, 12)}…. Give the file that the study was made with, or leave ${setting}Sha256 empty for a new study.`,
    );
  return { setting, path, sha256 };
}
