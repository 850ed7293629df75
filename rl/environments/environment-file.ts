// A file that an environment reads belongs to what a run's results rest on: it is known by its content.
import { FileError, sha256File } from "../../engine/host/index.ts";
import type { EnvironmentFile } from "./environment.ts";

/**
 * A file that a setting names, with its SHA-256. The setting's neighbour, named `SETTINGSha256`, holds the digest in a run's
 * config.toml, so that the same study cannot go on with another file.
 * @param expected  the digest that the settings give, empty for none
 * @throws FileError when it cannot be read or has another digest
 */
export function environmentFile(setting: string, path: string, expected: string): EnvironmentFile {
  const sha256 = sha256File(path);
  if (expected !== "" && expected !== sha256)
    throw new FileError(
      `${path}: another file than the settings name: expected SHA-256 ${expected.slice(0, 12)}… (${setting}Sha256), got ` +
        `${sha256.slice(0, 12)}…. Give the file that the study was made with, or leave ${setting}Sha256 empty for another study.`,
    );
  return { setting, path, sha256 };
}
