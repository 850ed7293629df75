// Debian's Chromium for tests of the report, driven by playwright-core. FOOTHOLD_CHROMIUM names another one.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** How to get it, said by the tests that miss it. */
export const howToInstall =
  "Chromium is missing, so the report was NOT tested in a browser. Install it (Debian: apt-get install chromium) or set " +
  "FOOTHOLD_CHROMIUM to the path of a Chromium or Chrome.";

/** The path of a browser, or null. */
export function chromiumPath(): string | null {
  const given = process.env["FOOTHOLD_CHROMIUM"];
  if (given !== undefined) return existsSync(given) ? given : null;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find(existsSync) ?? null;
}

/** @throws Error with how to install it when there is no browser */
export function openChromium(): Promise<Browser> {
  const executablePath = chromiumPath();
  if (executablePath === null) throw new Error(howToInstall);
  // As root, Chromium refuses to start with its sandbox. The only page that it opens is our own.
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}
