// Makes the pictures of the report in docs/pictures again, from a finished run:
//
//   node landscape/run.ts --out runs/pictures
//   node test/landscape/report/screenshots.ts runs/pictures
//
// Those of the repository are of runs/tiny-100 of docs/study.md (five slices, noise floor), which has the same numbers in slice 0.
// Needs Chromium (chromium.ts).
import { statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { openChromium } from "./chromium.ts";

interface Picture {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly scheme: "light" | "dark";
  /** The part that is at the top of the picture. */
  readonly from: string;
}

const address = "#step=20&slice=0&cell=1,1";
const pictures: readonly Picture[] = [
  { name: "report-light", width: 1180, height: 750, scheme: "light", from: "#controls" },
  { name: "report-dark", width: 1180, height: 1180, scheme: "dark", from: "#said" },
  { name: "report-narrow", width: 420, height: 860, scheme: "light", from: "#controls" },
];
/** Pictures are part of the repository. */
const mostBytes = 150_000;

const [run] = process.argv.slice(2);
if (run === undefined) {
  console.error("screenshots: name a run folder: node test/landscape/report/screenshots.ts RUN");
  process.exit(2);
}
const folder = fileURLToPath(new URL("../../../docs/pictures/", import.meta.url));
const browser = await openChromium();
try {
  for (const { name, width, height, scheme, from } of pictures) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme });
    await page.goto(pathToFileURL(join(run, "report.html")).href + address);
    await page.waitForSelector("#conversations article, #conversations .empty");
    const top = await page.evaluate((selector) => {
      const box = document.querySelector(selector)?.getBoundingClientRect();
      return (box?.top ?? 0) + scrollY;
    }, from);
    const path = join(folder, `${name}.png`);
    await page.screenshot({ path, fullPage: true, clip: { x: 0, y: Math.max(0, top - 16), width, height } });
    const { size } = statSync(path);
    console.log(`${path}: ${size} bytes`);
    if (size > mostBytes) {
      console.error(`screenshots: ${name}.png has ${size} bytes, at most ${mostBytes} are wanted. Make it smaller.`);
      process.exitCode = 1;
    }
  }
} finally {
  await browser.close();
}
