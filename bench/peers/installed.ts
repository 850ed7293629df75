// Checks whether the libraries to compare with are installed: they are not dependencies of foothold, and most users
// never need them.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { SettingsError } from "../../engine/host/errors.ts";

/**
 * @param folder  the folder of the comparison's package.json
 * @throws SettingsError that names what is missing and the command that installs it
 */
export function expectInstalled(folder: string): void {
  const manifest: unknown = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const { dependencies } = z.object({ dependencies: z.record(z.string(), z.string()) }).parse(manifest);
  const missing = Object.keys(dependencies).filter((name) => !existsSync(join(folder, "node_modules", name)));
  if (missing.length === 0) return;
  throw new SettingsError(
    `bench/peers: expected the libraries to compare with in node_modules there, got no ${missing.join(", ")}. ` +
      "Install them once (362 MB): npm ci --ignore-scripts --prefix bench/peers",
  );
}
