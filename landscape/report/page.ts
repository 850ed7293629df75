// report.html: the whole study in one file that opens without a network, to explore and to share.
//
// Everything that needs no script is plain HTML: notes, curves, tables, definitions, and the map of the last
// checkpoint. All maps are in the page; the script chooses which one is shown and moves a highlight. Every interpolated
// text is escaped by the `html` tag, data are stored as JSON without any "<", and a content security policy lets
// only this page's own script and styles run, by their hashes: model output may contain anything. No clock and no
// random number is read, so the same study gives the same bytes.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { PAGE } from "./figures/colour.ts";
import { correlationFigure } from "./figures/correlation.ts";
import { distinct, inOrder, type Study } from "./figures/figure-data.ts";
import { packed, pageData } from "./figures/page/page-data.ts";
import { pageScript } from "./figures/page/page-script.ts";
import { ringCurvesFigure } from "./figures/page/small-map.ts";
import { studyFigures } from "./figures/study-figures.ts";
import type { Markup } from "./figures/svg.ts";
import { html, type Part, packedScript } from "./html.ts";
import { claimsSection } from "./page-claims.ts";
import { directionTable } from "./page-directions.ts";
import { everyCheckpoint, explorer, firstShown } from "./page-explorer.ts";
import { figuresOfMaps } from "./page-figures.ts";
import { klFromSection } from "./page-kl-from.ts";
import { raysSection } from "./page-rays.ts";
import { packConversations, whereItBreaks } from "./page-said.ts";
import { trainingSamples } from "./page-samples.ts";
import { definitions, mapTable, settingsTable, trendTable } from "./page-tables.ts";

/**
 * The report of a study as one self-contained HTML document.
 * @throws RangeError for a map with points off its grid or with numbers that are not finite
 */
export function renderReport(given: Study): string {
  const maps = inOrder(given.maps).filter((map) => map.points.length > 0);
  const study = { ...given, maps };
  const script = unixLines(pageScript());
  const style = unixLines(
    `${fontFaces()}\n${readFileSync(new URL("./figures/page/report.css", import.meta.url), "utf8")}`,
  );
  const figures = figuresOfMaps(maps);
  const data = packedScript("data", packed(pageData(maps, figures))).markup;
  const before = html`${maps.length > 0 ? explorer(study, figures) : html`<p class="empty">No landscape has been measured yet.</p>`}
${maps.length > 0 ? everyCheckpoint(study) : null}`;
  const after = html`${curves(study)}
${maps.length > 0 ? mapTable(study) : null}
${trendTable(study)}
${directionTable(study)}
${screenAlone("kl-from", "KL from other checkpoints", "landscape/kl-from.json", klFromSection(study), study)}
${screenAlone("rays", "Rays", "landscape/rays.json", raysSection(study), study)}
${claimsSection(study)}
${maps.length > 0 ? definitions() : null}
${trainingSamples(study)}
${settingsTable(study)}`;
  const rest = [style, script, data, before.markup, after.markup].reduce(
    (sum, part) => sum + Buffer.byteLength(part),
    0,
  );
  const conversations = packConversations(maps, Math.max(LEAST_CONVERSATIONS, MOST_BYTES - rest));
  const shown = maps.length > 0 ? firstShown(maps) : 0;
  const document = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentPolicy(script, style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${study.name} · foothold</title>
<style>${{ markup: style }}</style>
</head>
<body>
${masthead(study)}
<main>
${before}
${maps.length > 0 ? whereItBreaks(maps, shown, figures[shown], conversations) : null}
${after}
</main>
${{ markup: data }}
${conversations.blocks.map((block, k) => (block === null ? null : packedScript(`conversations-${k}`, block)))}
<script>${{ markup: script }}</script>
</body>
</html>
`;
  return document.markup;
}

/** With more checkpoints, a report on paper has no room for what claim T3 sums up. */
const MOST_PAPER_CHECKPOINTS = 6;

/** A section that is not printed for many checkpoints: paper then says where it is. */
function screenAlone(id: string, title: string, file: string, section: Markup | null, { maps }: Study): Markup | null {
  if (section === null || distinct(maps.map(({ step }) => step)).length <= MOST_PAPER_CHECKPOINTS) return section;
  return html`<div class="off-paper" data-section="${id}">${section}</div>
<p class="caption on-paper">${title}: not on paper. The report on screen has figures and tables, ${file} of the run folder all numbers.</p>`;
}

/** The page's size that conversations may fill: a page of 1.5 MB can be sent by mail and opens at once. */
const MOST_BYTES = 1_450_000;
/** Conversations get this much even in a page that is larger. */
const LEAST_CONVERSATIONS = 150_000;

function contentPolicy(script: string, style: string): string {
  return [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "font-src data:",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

function masthead(study: Study): Markup {
  const { maps, task } = study;
  return html`<header class="masthead">
<p class="wordmark">foothold</p>
${themeChoice()}
<h1>${study.name}</h1>
${task === undefined ? null : html`<p class="lede">${task}</p>`}
${maps.length === 0 ? null : html`<p class="lede">${whatWasMeasured(study)}</p>`}
${noteList("gaps", "Incomplete", study.gaps ?? [])}
${noteList("first", "Read first", study.notes)}
${maps.length === 0 ? null : html`<p class="caption on-paper">On paper: one cell’s place in the maps, no conversations, and of long tables the first and last rows. The report on screen, report.html of the run folder, has them.</p>`}
</header>`;
}

/** Hidden until the script makes it work. */
function themeChoice(): Markup {
  const choice = (value: string, name: string) =>
    html`<label><input type="radio" name="theme" value="${value}"${value === "auto" ? html` checked` : null}><span>${name}</span></label>`;
  return html`<fieldset class="switch" id="theme" hidden>
<legend>Colours of the page</legend>
${choice("auto", "Auto")}
${choice("light", "Light")}
${choice("dark", "Dark")}
</fieldset>`;
}

function whatWasMeasured({ maps }: Study): string {
  const steps = distinct(maps.map((map) => map.step));
  const slices = distinct(maps.map((map) => map.slice));
  const sides = distinct(maps.map((map) => map.n)).map((n) => `${n} × ${n}`);
  const checkpoints = steps.length === 1 ? "one checkpoint" : `${steps.length} checkpoints`;
  const grid = `${checkpoints}, ${sides.join(" and ")} points${slices.length > 1 ? `, ${slices.length} slices` : ""}`;
  return (
    "Each checkpoint of the policy was moved along two directions in weight space, θ(α, β) = θ + αδ + βη. Its reward, its " +
    `KL divergence from the checkpoint and the training objective were measured at every point of a grid: ${grid}.`
  );
}

function noteList(id: string, title: string, notes: readonly string[]): Markup | null {
  if (notes.length === 0) return null;
  return html`<section class="notes" aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
<ul>${notes.map((note): Part => html`<li>${note}</li>`)}</ul>
</section>`;
}

/** The curves are the figures of the run folder, in the page's colours and linked to the slider by step. */
function curves(study: Study): Markup | null {
  const options = { widthMm: 104, fontPt: 8, theme: PAGE, isLinked: true };
  const drawn = [
    study.maps.length > 0 ? correlationFigure(study, options).svg : null,
    study.maps.length > 0 ? ringCurvesFigure(study.maps) : null,
    studyFigures(study).get("training")?.(options).svg ?? null,
    studyFigures(study).get("training-health")?.(options).svg ?? null,
    studyFigures(study).get("trajectory")?.(options).svg ?? null,
  ].filter((svg) => svg !== null);
  if (drawn.length === 0) return null;
  return html`<section aria-labelledby="over-training">
<h2 id="over-training">Over training</h2>
${study.maps.length === 0 ? null : html`<p class="caption">Dashed grey line and coloured curve: the checkpoint that is chosen above; pointing at a curve chooses its checkpoint. Triangle: the value lies beyond the axis. Reward against KL: the means of each ring of equal distance.</p>`}
<div class="curves">${drawn.map((svg) => html`<figure>${{ markup: svg }}</figure>`)}</div>
</section>`;
}

function fontFaces(): string {
  const face = (file: string, style: string, weight: string) => {
    const bytes = readFileSync(new URL(`./figures/fonts/${file}`, import.meta.url)).toString("base64");
    const source = `url(data:font/woff2;base64,${bytes}) format("woff2")`;
    return `@font-face{font-family:"Source Sans 3";font-style:${style};font-weight:${weight};src:${source}}`;
  };
  return [
    face("SourceSans3VF-Upright.ttf.woff2", "normal", "200 900"),
    face("SourceSans3-It.ttf.woff2", "italic", "400"),
  ].join("\n");
}

/** A browser hashes the parsed text, whose line ends are "\n" even if the checkout has "\r\n". */
function unixLines(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
