// The report in a real browser: its numbers are those of points.csv, it can be used by keyboard and by address, axe-core
// finds no serious fault, and its weight, opening time and print are as promised.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BrowserContextOptions, Page } from "playwright-core";
import * as assert from "uvu/assert";
import { sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { renderReport } from "../../../landscape/report/page.ts";
import { redraw } from "../../../landscape/report/report.ts";
import { reachOfMean } from "../../../rl/index.ts";
import { describe } from "../../support.ts";
import { STUDY_SIZE, writeStudySizedRun, writeSyntheticRun } from "../synthetic-run.ts";
import { syntheticStudy } from "../synthetic-study.ts";
import { openChromium } from "./chromium.ts";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "foothold-browser-"));
const run = join(folder, "run");
const shape = { steps: [0, 2], slices: 2, points: 5 };
writeSyntheticRun(run, undefined, shape);
await redraw(run, () => {}, new AbortController().signal);
const report = pathToFileURL(join(run, "report.html")).href;
const large = join(folder, "large.html");
const steps = Array.from({ length: 16 }, (_, k) => 10 * k);
writeFileSync(large, renderReport(syntheticStudy(steps, [0], 21)));
// As many checkpoints, with every claim: its tables are as long as those of 21 × 21 points, or cut to the same length.
const claims = join(folder, "claims");
writeStudySizedRun(claims, { ...STUDY_SIZE, points: 11, prompts: 4, rollouts: 2, simulations: 0 });
await redraw(claims, () => {}, new AbortController().signal);

/** The rows of a slice's points.csv as numbers by column. */
function pointsOf(step: number, slice: number): Record<string, number>[] {
  const [header, ...rows] = readFileSync(slicePaths(sliceFolder(run, { step, slice })).points, "utf8")
    .trim()
    .split("\n")
    .map((line) => line.split(","));
  return rows.map((row) => Object.fromEntries(header.map((name, k) => [name, Number(row[k])])));
}

describe("landscape/report in a browser", async (test) => {
  const browser = openChromium();
  browser.catch(() => {}); // each test fails with its message
  test.after(async () => {
    await (await browser.catch(() => null))?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Opens a page, does something there, and expects that the browser had nothing to complain of. */
  async function on(
    address: string,
    options: BrowserContextOptions,
    act: (page: Page) => Promise<void>,
  ): Promise<void> {
    const context = await (await browser).newContext(options);
    try {
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("request", (request) => {
        if (!/^(file|data|blob):/.test(request.url())) complaints.push(`network: ${request.url()}`);
      });
      await page.goto(address);
      await page.waitForSelector("#reading:not([hidden])");
      await act(page);
      assert.equal(complaints, []);
    } finally {
      await context.close();
    }
  }
  const text = async (page: Page, id: string): Promise<string> => (await page.locator(id).textContent()) ?? "";
  const areaOf = async (page: Page): Promise<{ x: number; y: number; width: number; height: number }> => {
    await page.locator("#map").evaluate((map) => map.scrollIntoView({ block: "center" }));
    const box = await page.locator("#map .map-area").boundingBox();
    if (box === null) throw new Error("the map has no area");
    return box;
  };
  /** page.url() may lag behind the address. */
  const hash = (page: Page): Promise<string> => page.evaluate(() => location.hash);

  test("shows the numbers of points.csv, by address and under the pointer", () =>
    on(report, {}, async (page) => {
      for (const step of shape.steps)
        for (const point of pointsOf(step, 1).filter((_, k) => k % 3 === 0)) {
          await page.evaluate((to) => (location.hash = to), `#step=${step}&slice=1&cell=${point["i"]},${point["j"]}`);
          await page.waitForFunction((to) => location.hash.startsWith(to), `#step=${step}&slice=1&show=`);
          const reach = reachOfMean(point["reward_error"], 4) ?? Number.NaN;
          const reward = `${point["reward"].toFixed(3)} ± ${reach.toFixed(3)}`.replace("-", "−");
          assert.is(await text(page, "#reward"), reward);
          assert.is(Number((await text(page, "#kl")).replace("−", "-")), Number(point["kl_token"].toPrecision(3)));
          assert.match(await text(page, "#announcement"), `reward ${reward}, KL`);
        }
      // Cell (4, 0) is the square at the right below.
      const box = await areaOf(page);
      await page.mouse.move(box.x + 0.95 * box.width, box.y + 0.95 * box.height);
      const corner = pointsOf(2, 1).find(({ i, j }) => i === 4 && j === 0);
      assert.match(await text(page, ".tip"), `R ${corner?.["reward"].toFixed(3).replace("-", "−")}`);
    }));

  test("has an address that says what is chosen, and follows it", () =>
    on(report, {}, async (page) => {
      await page.selectOption("#slice", "1");
      await page.check("input[value=kl]", { force: true });
      await page.locator("#step").focus();
      await page.keyboard.press("Home");
      const box = await areaOf(page);
      await page.mouse.click(box.x + 0.3 * box.width, box.y + 0.1 * box.height);
      assert.is(await hash(page), "#step=0&slice=1&show=kl&cell=1,4");
      const [at, reward] = [await text(page, "#at"), await text(page, "#reward")];
      await on(`${report}${await hash(page)}`, {}, async (other) => {
        assert.equal([await text(other, "#at"), await text(other, "#reward")], [at, reward]);
        assert.is(await hash(other), "#step=0&slice=1&show=kl&cell=1,4");
        await other.evaluate(() => (location.hash = "#step=2&slice=0&cell=2,2"));
        await other.waitForFunction(() => location.hash === "#step=2&slice=0&show=kl&cell=2,2");
        assert.match(await text(other, "#at"), "the checkpoint");
        assert.is(await text(other, "#step-number"), "2");
      });
      // What the study does not have is left as it was.
      await page.evaluate(() => (location.hash = "#step=7&slice=9&cell=x"));
      await page.waitForFunction(() => location.hash === "#step=0&slice=1&show=kl&cell=1,4");
    }));

  test("links curves and maps: pointing at a checkpoint in a curve chooses it", () =>
    on(`${report}#step=2&slice=0`, {}, async (page) => {
      for (const curve of [".kl-curve[data-step='0'][data-slice='0'] path", ".step-target[data-step='0'] rect"]) {
        await page.evaluate(() => (location.hash = "#step=2&slice=0"));
        await page.waitForFunction(() => location.hash.startsWith("#step=2&slice=0&show="));
        const target = page.locator(curve).first();
        await target.scrollIntoViewIfNeeded();
        await target.dispatchEvent("pointerover");
        await page.waitForFunction(() => location.hash.startsWith("#step=0"));
        assert.is(await page.locator(".step-target.on").first().getAttribute("data-step"), "0");
        assert.is(await text(page, "#summary tr.on th"), "step 0");
        assert.match(await text(page, "#map svg"), "step 0");
      }
    }));

  test("marks the first token that differs from the checkpoint's conversation", () =>
    on(`${report}#step=2&slice=0&cell=2,2`, {}, async (page) => {
      await page.waitForSelector("#conversations article");
      assert.is(await page.locator("#conversations mark").count(), 0, "the checkpoint differs from nothing");
      await page.locator("#map").focus();
      await page.keyboard.press("ArrowRight");
      await page.waitForSelector("#conversations mark");
      const [own, its] = await page.locator("#conversations mark").allTextContents();
      assert.is(own.toLowerCase(), its.toLowerCase());
      assert.is.not(own, its);
      assert.match(await text(page, "#conversations .place"), /The first \d tokens are the checkpoint’s/);
      assert.match(await text(page, "#conversations summary"), "to the end");
      assert.is(await page.locator("[data-panel=breaks] svg").count(), 1);
    }));

  test("can be used with the keyboard alone", () =>
    on(report, { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
      const seen = new Set<string>();
      for (let k = 0; k < 120; k++) {
        await page.keyboard.press("Tab");
        seen.add(
          await page.evaluate(() => {
            const { id, dataset, tagName } = document.activeElement as HTMLElement;
            return id || dataset["copy"] || (document.activeElement as HTMLInputElement).name || tagName;
          }),
        );
      }
      for (const stop of ["theme", "step", "slice", "quantity", "own-colours", "map", "cells", "summary", "settings"])
        assert.ok(seen.has(stop), `Tab reaches ${stop}: ${[...seen].join(" ")}`);
      await page.locator("#map").focus();
      for (const key of ["Home", "ArrowLeft", "ArrowUp", "ArrowUp", "PageDown"]) await page.keyboard.press(key);
      assert.is(await hash(page), "#step=0&slice=0&show=reward&cell=1,4");
      const point = pointsOf(0, 0).find(({ i, j }) => i === 1 && j === 4);
      assert.match(await text(page, "#reward"), point?.["reward"].toFixed(3).replace("-", "−") ?? "");

      const copied = async (selector: string): Promise<string> => {
        await page.locator(selector).focus();
        await page.keyboard.press("Enter");
        await page.waitForFunction((at) => document.querySelector(at)?.textContent === "Copied", selector);
        return page.evaluate(() => navigator.clipboard.readText());
      };
      const cells = (await copied("[data-copy=cells]")).trim().split("\n");
      assert.is(cells.length, 26);
      const row =
        cells
          .find((line) => line.startsWith("0,0,1,4,"))
          ?.split(",")
          .map(Number) ?? [];
      const nine = (value: number | undefined): number => Number(value?.toPrecision(9));
      assert.equal([row[6], row[8]], [nine(point?.["reward"]), nine(point?.["kl_token"])], "nine digits");
      const table = await copied("[data-copy=summary][data-as=csv]");
      assert.match(table, /^step,slice,reward_at_checkpoint,reach,r,r_low,r_high,r_infinity,/);
      const fields = table
        .trim()
        .split("\n")
        .map((line) => line.split(",").length);
      assert.equal(new Set(fields).size, 1, `every line has as many fields: ${fields}`);
      const latex = await copied("[data-copy=settings][data-as=latex]");
      assert.match(latex, "\\begin{tabular}{ll}\n\\toprule\nsetting & value \\\\\n\\midrule");
      assert.match(latex, "environment.alphabet-sort.");
    }));

  for (const [name, options] of [
    ["in light", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
    ["in dark", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
    ["420 px wide", { colorScheme: "light", viewport: { width: 420, height: 800 } }],
  ] as const)
    test(`has no serious fault for axe-core, and does not scroll sideways: ${name}`, () =>
      on(`${report}#step=2&slice=0&cell=1,2`, { ...options, bypassCSP: true }, async (page) => {
        await page.waitForSelector("#conversations article");
        await page.addScriptTag({ content: axeSource });
        const faults = await page.evaluate(async () => {
          const { axe } = globalThis as unknown as {
            axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> };
          };
          const { violations } = await axe.run();
          return violations
            .filter(({ impact }) => impact === "serious" || impact === "critical")
            .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" ; ")}`);
        });
        assert.equal(faults, []);
        const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(width <= room, `${width} px in ${room} px`);
        await page.check("#theme input[value=dark]", { force: true });
        const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.is(paper, "rgb(21, 23, 27)", "the switch goes before the system's choice");
      }));

  test("prints 16 checkpoints with every claim's tables on at most six pages, and says what is not on paper", () =>
    on(pathToFileURL(join(claims, "report.html")).href, {}, async (page) => {
      await page.emulateMedia({ media: "print" });
      const pdf = await page.pdf({ preferCSSPageSize: true });
      const pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g);
      assert.ok(pages !== null && pages.length <= 6, `${pages?.length} pages`);
      // As wide as the text on A4: 190 mm.
      await page.setViewportSize({ width: 718, height: 1000 });
      const tables = page.locator("section[aria-labelledby=claims] table");
      assert.is(await tables.count(), 9);
      for (const table of await tables.all()) {
        assert.ok(await table.isVisible());
        const rows = table.locator("tbody tr");
        const shown = await rows.locator("visible=true").count();
        assert.is(shown, Math.min(10, await rows.count()));
        const wide = await table.evaluate(
          (one) => one.getBoundingClientRect().width - (one.parentElement?.clientWidth ?? 0),
        );
        assert.ok(wide < 1, `${await table.getAttribute("id")} is ${wide} px wider than its place`);
      }
      const said = await page.locator(".on-paper >> visible=true").allTextContents();
      assert.match(
        said.join("\n"),
        /first and the last 5 rows\. The report on screen has more, landscape\/claims\.json all \d+/,
      );
      for (const text of ["On paper: ", "Settings: not on paper."]) assert.match(said.join("\n"), text);
      await page.emulateMedia({ media: "screen" });
      assert.is(await page.locator(".on-paper >> visible=true").count(), 0);
    }));

  test("opens in under a second with 16 checkpoints of 441 cells, and prints on at most six pages", async () => {
    const times: number[] = [];
    // The best of some: other work on the machine only makes it slower.
    for (let k = 0; k < 8 && !(Math.min(...times) < 1000); k++)
      await on(pathToFileURL(large).href, {}, async (page) => {
        times.push(await page.evaluate(() => performance.getEntriesByName("ready")[0].startTime));
        if (k > 0) return;
        await page.emulateMedia({ media: "print" });
        assert.is(await page.locator(".thumbnail svg >> visible=true").count(), 16);
        assert.is(await page.locator(".definitions dd >> visible=true").count(), 7);
        assert.is(await page.locator("#controls >> visible=true").count(), 0);
        const pages = (await page.pdf({ preferCSSPageSize: true })).toString("latin1").match(/\/Type\s*\/Page\b/g);
        assert.ok(pages !== null && pages.length <= 6, `${pages?.length} pages`);
      });
    assert.ok(Math.min(...times) < 1000, `ready after ${times.map(Math.round).join(", ")} ms`);
  });
});
