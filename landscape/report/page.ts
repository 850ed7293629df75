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
import { reportClient } from "./figures/page/client.ts";
import { pageConversations, pageData } from "./figures/page/page-data.ts";
import { studyFigures } from "./figures/study-figures.ts";
import type { Markup } from "./figures/svg.ts";
import { html, jsonScript, type Part } from "./html.ts";
import { claimsSection } from "./page-claims.ts";
import { directionTable } from "./page-directions.ts";
import { explorer } from "./page-explorer.ts";
import { raysSection } from "./page-rays.ts";
import { trainingSamples } from "./page-samples.ts";
import { definitions, mapTable, settingsTable, trendTable } from "./page-tables.ts";

/**
 * The report of a study as one self-contained HTML document.
 * @throws RangeError for a map with points off its grid or with numbers that are not finite
 */
export function renderReport(given: Study): string {
  const maps = inOrder(given.maps).filter((map) => map.points.length > 0);
  const study = { ...given, maps };
  const script = unixLines(`"use strict";(${reportClient.toString()})();`);
  const style = unixLines(
    `${fontFaces()}\n${readFileSync(new URL("./figures/page/report.css", import.meta.url), "utf8")}`,
  );
  const hasConversations = maps.some((map) => map.conversations !== undefined);
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
${maps.length > 0 ? explorer(study) : html`<p class="empty">No landscape has been measured yet.</p>`}
${curves(study)}
${maps.length > 0 ? mapTable(study) : null}
${trendTable(study)}
${directionTable(study)}
${raysSection(study)}
${claimsSection(study)}
${maps.length > 0 ? definitions() : null}
${hasConversations ? conversations() : html`<div id="conversations" hidden></div>`}
${trainingSamples(study)}
${settingsTable(study)}
</main>
${jsonScript("data", pageData(maps))}
${maps.map((map, k) => {
  const said = pageConversations(map);
  return said === null ? null : jsonScript(`conversations-${k}`, said);
})}
<script>${{ markup: script }}</script>
</body>
</html>
`;
  return document.markup;
}

function contentPolicy(script: string, style: string): string {
  return [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "font-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

function masthead(study: Study): Markup {
  const { maps, task } = study;
  return html`<header class="masthead">
<p class="wordmark">foothold</p>
<h1>${study.name}</h1>
${task === undefined ? null : html`<p class="lede">${task}</p>`}
${maps.length === 0 ? null : html`<p class="lede">${whatWasMeasured(study)}</p>`}
${noteList("gaps", "Incomplete", study.gaps ?? [])}
${noteList("first", "Read first", study.notes)}
</header>`;
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
    study.maps.length > 0 ? correlationFigure(study, options) : null,
    studyFigures(study).get("training")?.(options) ?? null,
    studyFigures(study).get("training-health")?.(options) ?? null,
  ].filter((figure) => figure !== null);
  if (drawn.length === 0) return null;
  return html`<section aria-labelledby="over-training">
<h2 id="over-training">Over training</h2>
${study.maps.length === 0 ? null : html`<p class="caption">Dashed grey line: the checkpoint that is chosen above. Triangle: the value lies beyond the axis.</p>`}
<div class="curves">${drawn.map((figure) => html`<figure>${{ markup: figure.svg }}</figure>`)}</div>
</section>`;
}

function conversations(): Markup {
  return html`<section aria-labelledby="said">
<h2 id="said">Conversations at this cell</h2>
<div id="conversations"><p class="empty">Conversations are shown only with JavaScript.</p></div>
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
