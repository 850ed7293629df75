// report.html: the whole study in one file that opens without a network, for looking around and for showing around.
//
// What can be read without a script is written here as plain HTML (notes, curves, tables); the script adds the map that
// follows slider, switches and pointer. Every interpolated text is escaped by the `html` tag, data travel as JSON in which
// no "<" is left, and a content security policy lets only this page's own script and styles run, by their hashes: model
// output may contain anything. No clock and no random number is read, so the same study gives the same bytes.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { PAGE } from "./figures/colour.ts";
import { correlationFigure, ESTIMAND_LABELS, type Estimand } from "./figures/correlation.ts";
import { distinct, type Estimate, inOrder, type LandscapeMap, type Study } from "./figures/figure-data.ts";
import { reportClient } from "./figures/page/client.ts";
import { pageConversations, pageData } from "./figures/page/page-data.ts";
import { studyFigures } from "./figures/study-figures.ts";
import { escapeText, type Label, type Markup } from "./figures/svg.ts";

type Part = Markup | string | number | null | readonly Part[];

/** HTML from a template: what is interpolated is text and is escaped, unless it is markup already. */
function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return { markup: strings.map((string, k) => (k === 0 ? "" : written(parts[k - 1])) + string).join("") };
}

function written(part: Part): string {
  if (part === null) return "";
  if (typeof part === "string" || typeof part === "number") return escapeText(String(part));
  return "markup" in part ? part.markup : part.map(written).join("");
}

const ESTIMANDS: readonly Estimand[] = ["r", "rInfinity", "withinRing"];
const INTERVAL = "jackknife interval over prompts";

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
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "font-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const document = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${study.name} · foothold</title>
<style>${{ markup: style }}</style>
</head>
<body>
${masthead(study)}
<main>
${maps.length > 0 ? explorer(study) : html`<p class="empty">No landscape has been measured yet.</p>`}
${curves(study)}
${maps.some((map) => map.conversations !== undefined) ? html`<section aria-labelledby="said"><h2 id="said">What was said there</h2><div id="conversations"></div></section>` : html`<div id="conversations" hidden></div>`}
${maps.length > 0 ? summaryTable(study) : null}
${maps.length > 0 ? howToRead(study) : null}
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

function masthead(study: Study): Markup {
  const { maps } = study;
  const steps = distinct(maps.map((map) => map.step));
  const slices = distinct(maps.map((map) => map.slice));
  const sides = distinct(maps.map((map) => map.n)).map((n) => `${n} × ${n}`);
  const grid = `${steps.length === 1 ? "one checkpoint" : `${steps.length} checkpoints`}, ${sides.join(" and ")} points${slices.length > 1 ? `, ${slices.length} slices` : ""}`;
  return html`<header class="masthead">
<p class="wordmark">foothold</p>
<h1>${study.name}</h1>
${maps.length === 0 ? null : html`<p class="lede">Each checkpoint of the policy was moved along two directions in weight space, θ(α, β) = θ + αδ + βη, and its reward, its KL divergence from the checkpoint and the training objective were measured at every point of a grid: ${grid}.</p>`}
${study.notes.length === 0 ? null : html`<section class="notes" aria-labelledby="first"><h2 id="first">Read first</h2><ul>${study.notes.map((note) => html`<li>${note}</li>`)}</ul></section>`}
</header>`;
}

function explorer(study: Study): Markup {
  const { maps } = study;
  const steps = distinct(maps.map((map) => map.step));
  const slices = distinct(maps.map((map) => map.slice));
  const last = steps[steps.length - 1];
  const quantity = (value: string, name: Markup, checked: boolean) =>
    html`<label><input type="radio" name="quantity" value="${value}"${checked ? html` checked` : null}><span>${name}</span></label>`;
  return html`<section aria-label="The landscape">
<div id="controls">
<div class="checkpoint-slider"><label for="step" class="quiet">Checkpoint, step</label><output id="step-number" for="step">${last}</output><input type="range" id="step" min="0" max="${steps.length - 1}" step="1" value="${steps.length - 1}"${steps.length === 1 ? html` disabled` : null}></div>
${slices.length === 1 ? null : html`<div><label class="quiet" for="slice">Slice</label> <select id="slice">${slices.map((slice) => html`<option value="${slice}">${slice}</option>`)}</select></div>`}
<fieldset class="switch"><legend>Quantity</legend>${quantity("reward", html`Reward`, true)}${quantity("kl", html`KL`, false)}${quantity("objective", html`Objective`, false)}</fieldset>
<label class="quiet"><input type="checkbox" id="own-colours"> colours for this map alone</label>
</div>
<div class="explorer">
<div>
<svg id="map" viewBox="0 0 456 480" tabindex="0" role="application" aria-roledescription="heat map" aria-label="Heat map over alpha and beta. Arrow keys move from cell to cell, Home goes to the checkpoint." aria-describedby="reading"></svg>
<p class="caption"><span data-caption="reward">Colour: mean reward <i>R</i>. Lines: KL per token, in nats. Ring: the checkpoint.</span><span data-caption="kl" hidden>Colour and lines: KL per token from the checkpoint, in nats. Ring: the checkpoint.</span><span data-caption="objective" hidden>Colour and lines: <i>J</i> − <i>J</i>(0, 0), dashed below zero. Ring: the checkpoint.</span> <span id="map-mark"></span></p>
</div>
<div>
<div class="reading" id="reading" aria-live="polite">
<p class="where" id="at"></p>
<dl><dt class="first"><i>R</i></dt><dd class="first" id="reward"></dd><dt>KL</dt><dd id="kl"></dd><dt><i>J</i> − <i>J</i>(0, 0)</dt><dd id="objective"></dd></dl>
<p class="where gain" id="gain"></p>
</div>
${maps.map((map, k) => html`<dl class="estimates" data-estimates="${k}"${k === 0 ? null : html` hidden`}>${ESTIMANDS.map((estimand) => html`<dt>${labelHtml(ESTIMAND_LABELS[estimand].symbol)}</dt><dd>${estimateHtml(map.summary[estimand], map.summary.promptsToDetermine)}</dd>`)}</dl>`)}
<svg id="scatter" viewBox="0 0 400 236" role="img" aria-label="Reward against KL, one dot for each cell"></svg>
<p class="caption">Reward against KL, a dot for each cell; lighter is nearer to the checkpoint. KL by its square root. Intervals of <i>r</i>: ${study.intervalName ?? INTERVAL}.</p>
</div>
</div>
</section>`;
}

/** The curves are the figures of the run folder, in the page's colours and linked to the slider by step. */
function curves(study: Study): Markup | null {
  const options = { widthMm: 104, fontPt: 8, theme: PAGE, isLinked: true };
  const drawn = [
    study.maps.length > 0 ? correlationFigure(study, options) : null,
    studyFigures(study).get("training")?.(options) ?? null,
  ].filter((figure) => figure !== null);
  if (drawn.length === 0) return null;
  return html`<section aria-labelledby="over-training"><h2 id="over-training">Over training</h2><div class="curves">${drawn.map((figure) => html`<figure>${{ markup: figure.svg }}</figure>`)}</div></section>`;
}

function summaryTable(study: Study): Markup {
  const { maps } = study;
  const further = [...new Set(maps.flatMap((map) => (map.summary.further ?? []).map(({ name }) => name)))];
  const hasSlices = distinct(maps.map((map) => map.slice)).length > 1;
  const row = (map: LandscapeMap, k: number) => {
    const { summary } = map;
    const error = summary.originRewardError ?? null;
    const extra = further.map((name) => summary.further?.find((column) => column.name === name)?.value ?? null);
    return html`<tr data-map="${k}"><th scope="row"><button type="button" data-go="${k}">step ${map.step}</button></th>${hasSlices ? html`<td>${map.slice}</td>` : null}<td>${fixed(summary.originReward, 3)}${error === null ? null : html` <span class="range">± ${fixed(error, 3)}</span>`}</td>${ESTIMANDS.map((estimand) => html`<td>${estimateHtml(summary[estimand])}</td>`)}<td>${typeof summary.floorShare === "number" ? `${fixed(100 * summary.floorShare, 1)}%` : null}</td>${extra.map((value) => html`<td>${typeof value === "number" ? significant(value) : value}</td>`)}</tr>`;
  };
  const names = [
    ...ESTIMANDS.map((estimand) => labelHtml(ESTIMAND_LABELS[estimand].symbol)),
    html`reward 0`,
    ...further.map((name) => html`${name}`),
  ];
  return html`<section aria-labelledby="maps"><h2 id="maps">Every map</h2><div class="scroll" tabindex="0" role="region" aria-labelledby="maps"><table id="summary"><thead><tr><th scope="col">checkpoint</th>${hasSlices ? html`<th scope="col">slice</th>` : null}<th scope="col"><i>R</i>(0, 0)</th>${names.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead><tbody>${maps.map(row)}</tbody></table></div><p class="caption">In brackets: ${study.intervalName ?? INTERVAL}. After ±: standard error over prompts. “reward 0”: share of all rollouts with reward 0.</p></section>`;
}

function howToRead(study: Study): Markup {
  const published = study.published === undefined ? null : html`<dt>Diamonds</dt><dd>${study.published.source}.</dd>`;
  return html`<section aria-labelledby="reading-guide"><h2 id="reading-guide">How to read this</h2><details><summary>What <i>r</i>, <i>r</i><sub>∞</sub> and the intervals mean</summary><dl>
<dt>${labelHtml(ESTIMAND_LABELS.r.symbol)}</dt><dd>Correlation of KL and reward over the cells of one map, at this number of prompts and rollouts. Rollout noise pulls it towards 0.</dd>
<dt>${labelHtml(ESTIMAND_LABELS.rInfinity.symbol)}</dt><dd>The same freed of rollout noise by pairing different prompts. It can pass ±1. Where the prompts do not tell the map’s spread from noise it is undetermined, which is not zero.</dd>
<dt>${labelHtml(ESTIMAND_LABELS.withinRing.symbol)}</dt><dd>What is left after “reward falls with distance from the checkpoint” is taken out: the mean of each ring of equal distance is subtracted first.</dd>
<dt>KL</dt><dd>KL(π<sub>θ</sub> ‖ π<sub>θ(α,β)</sub>), exact over the vocabulary, per token of completions sampled from the checkpoint. It is 0 at the checkpoint by construction and grows with distance; that reward is high there too is the finding, not the construction.</dd>
<dt><i>J</i></dt><dd>The clipped GRPO objective on completions sampled from the checkpoint, normalised over the tokens of each group.</dd>
<dt>Intervals</dt><dd>Neighbouring cells share prompts and noise and are no independent facts, so no p-value is given; prompts are what is resampled.</dd>
${published}</dl></details></section>`;
}

function settingsTable(study: Study): Markup | null {
  if (study.settings.length === 0) return null;
  return html`<section aria-labelledby="with"><h2 id="with">Settings</h2><div class="scroll" tabindex="0" role="region" aria-labelledby="with"><table id="settings"><thead><tr><th scope="col">setting</th><th scope="col">value</th></tr></thead><tbody>${study.settings.map(({ key, value }) => html`<tr><th scope="row">${key}</th><td>${String(value)}</td></tr>`)}</tbody></table></div></section>`;
}

function estimateHtml(estimate: Estimate, prompts: number | null = null): Markup {
  if (estimate === null) {
    return html`<span class="undetermined">undetermined${prompts === null ? null : html`, about ${prompts} prompts would tell`}</span>`;
  }
  const { value, low, high } = estimate;
  const range =
    low === null || high === null ? null : html` <span class="range">[${fixed(low, 2)}, ${fixed(high, 2)}]</span>`;
  return html`${fixed(value, 2)}${range}`;
}

const fixed = (value: number, digits: number) =>
  Number.isNaN(value) ? "not measured" : value.toFixed(digits).replace("-", "−");
const significant = (value: number) =>
  Number.isNaN(value) ? "" : String(Number(value.toPrecision(3))).replace("-", "−");

function labelHtml(label: Label): Markup {
  if (typeof label === "string") return html`${label}`;
  return html`${label.map((part) => (typeof part === "string" ? part : "sub" in part ? html`<sub>${part.sub}</sub>` : html`<i>${part.italic}</i>`))}`;
}

/** JSON that no HTML parser can mistake: with "<" gone there is neither an end tag nor a comment in it. */
function jsonScript(id: string, value: unknown): Markup {
  const json = JSON.stringify(value).replaceAll("<", "\\u003c");
  return html`<script type="application/json" id="${id}">${{ markup: json }}</script>
`;
}

function fontFaces(): string {
  const face = (file: string, style: string, weight: string) => {
    const bytes = readFileSync(new URL(`./figures/fonts/${file}`, import.meta.url)).toString("base64");
    return `@font-face{font-family:"Source Sans 3";font-style:${style};font-weight:${weight};src:url(data:font/woff2;base64,${bytes}) format("woff2")}`;
  };
  return [
    face("SourceSans3VF-Upright.ttf.woff2", "normal", "200 900"),
    face("SourceSans3-It.ttf.woff2", "italic", "400"),
  ].join("\n");
}

/** A browser hashes what it parsed, in which line ends are "\n" whatever the checkout has. */
function unixLines(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
