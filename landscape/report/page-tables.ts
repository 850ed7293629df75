// The tables of the report: every map's numbers, trends, definitions, settings.
import type { CorrelationTrend } from "../statistics/over-checkpoints.ts";
import type { Determination } from "../statistics/signal.ts";
import { CORRELATION_LABELS, type CorrelationName } from "./figures/correlation.ts";
import { type DrawnEstimate, distinct, type LandscapeMap, type SliceMean, type Study } from "./figures/figure-data.ts";
import type { Markup } from "./figures/svg.ts";
import { html, labelHtml, type Part } from "./html.ts";
import { fixed, NO_INTERVAL, TERMS, undeterminedText } from "./wording.ts";

const CORRELATIONS: readonly CorrelationName[] = ["r", "rInfinity", "withinRing"];

/** "−0.88 [−1.01, −0.75]", or "undetermined" with the number of prompts that it needs. */
export function estimateHtml(estimate: DrawnEstimate, determination?: Determination): Markup {
  if (estimate === null) return html`<span class="undetermined">${undeterminedText(determination)}</span>`;
  const { value, low, high } = estimate;
  if (low === null || high === null) return html`${fixed(value, 2)} <span class="range">${NO_INTERVAL}</span>`;
  return html`${fixed(value, 2)} <span class="range">[${fixed(low, 2)}, ${fixed(high, 2)}]</span>`;
}

/**
 * A remark at an estimate beyond ±1, which no correlation is: "−1.08" is no misprint. Null within ±1.
 */
export function puzzle(estimate: DrawnEstimate): Markup | null {
  if (estimate === null || Math.abs(estimate.value) <= 1) return null;
  const end = estimate.value < 0 ? "−1" : "1";
  return html` <span class="remark">Beyond ${end}: too much noise was subtracted. Read it as close to ${end}.</span>`;
}

const CSV_NAMES: Record<CorrelationName, string> = { r: "r", rInfinity: "r_infinity", withinRing: "within_ring_r" };

/** The fields that a cell has in a copy as CSV, separated by "|"; null: its text. */
const dataCsv = (csv: string | null): Markup | null => (csv === null ? null : html` data-csv="${csv}"`);

/** Buttons over a table, hidden until the script makes them work. @param name  of the table, for screen readers */
export function copyButtons(id: string, name: string): Markup {
  return html`<p class="tools" data-scripted hidden><button type="button" data-copy="${id}" data-as="csv" aria-label="Copy as CSV: ${name}">Copy as CSV</button>
<button type="button" data-copy="${id}" data-as="latex" aria-label="Copy as LaTeX: ${name}">Copy as LaTeX</button></p>`;
}

/** The numbers of an estimate for a copy as CSV: value, low, high. */
function estimateCsv(estimate: DrawnEstimate): string {
  return `${estimate?.value ?? ""}|${estimate?.low ?? ""}|${estimate?.high ?? ""}`;
}

const csvNames = (name: string): string => `${name}|${name}_low|${name}_high`;

/** One row per map. A checkpoint with five slices or more also has a row for their mean. */
export function mapTable(study: Study): Markup {
  const { maps, sliceMeans = [] } = study;
  const further = [...new Set(maps.flatMap((map) => (map.summary.further ?? []).map(({ name }) => name)))];
  const hasSlices = distinct(maps.map((map) => map.slice)).length > 1;
  const names: readonly (readonly [name: Part, csv: string | null])[] = [
    ["checkpoint", "step"],
    ...(hasSlices ? [["slice", null] as const] : []),
    [html`<i>R</i>(0, 0)`, "reward_at_checkpoint|reach"],
    ...CORRELATIONS.map((name) => [labelHtml(CORRELATION_LABELS[name].symbol), csvNames(CSV_NAMES[name])] as const),
    ["reward 0", "share_of_reward_0"],
    ...further.map((name) => [name, null] as const),
  ];
  const isPuzzling = maps.some(({ summary }) => CORRELATIONS.some((name) => puzzle(summary[name]) !== null));
  const meanNote =
    sliceMeans.length === 0
      ? null
      : " Rows “mean”: over the slices of a checkpoint, 95% interval by Student’s t over slices.";
  return html`<section aria-labelledby="maps">
<h2 id="maps">Every map</h2>
${copyButtons("summary", "the table of every map")}
<div class="scroll" tabindex="0" role="region" aria-labelledby="maps">
<table id="summary">
<thead><tr>${names.map(([name, csv]) => html`<th scope="col"${dataCsv(csv)}>${name}</th>`)}</tr></thead>
<tbody>
${maps.map((map, k) => mapRow(map, k, hasSlices, further))}
${sliceMeans.map((mean) => meanRow(mean, further.length))}
</tbody>
</table>
</div>
<p class="caption">In brackets: ${study.intervalName ?? "interval over prompts"}.
±: half the width of the 95% interval over prompts.
<i>R</i>(0, 0): mean reward at the checkpoint. Reward 0: ${TERMS.floor}.
Groups with advantages: ${TERMS.advantages}.
KL at mid-edges and corners: ${TERMS.landmarks}.${meanNote}${(study.noInterval ?? []).map((sentence) => ` ${sentence}`)}${isPuzzling ? html` †: beyond ±1, because too much noise was subtracted. Read it as close to ±1.` : null}</p>
</section>`;
}

function mapRow(map: LandscapeMap, k: number, hasSlices: boolean, further: readonly string[]): Markup {
  const { summary } = map;
  const share = summary.floorShare;
  const extra = further.map((name) => summary.further?.find((column) => column.name === name)?.value ?? null);
  const { originReward, originRewardReach: reach } = summary;
  const cells: readonly (readonly [shown: Part, csv: string | null])[] = [
    ...(hasSlices ? [[map.slice, null] as const] : []),
    [originRewardHtml(map), `${Number.isNaN(originReward) ? "" : originReward}|${reach ?? ""}`],
    ...CORRELATIONS.map((name) => {
      const dagger = puzzle(summary[name]) === null ? null : html`<span class="remark">†</span>`;
      return [html`${estimateHtml(summary[name])}${dagger}`, estimateCsv(summary[name])] as const;
    }),
    [typeof share === "number" ? `${fixed(100 * share, 1)}%` : null, typeof share === "number" ? String(share) : null],
    ...extra.map((value) => {
      const shown = typeof value === "number" ? significant(value) : value;
      return [shown, typeof value === "number" && !Number.isNaN(value) ? String(value) : null] as const;
    }),
  ];
  const mark = map.mark === undefined ? null : html` <span class="range remark">${map.mark}</span>`;
  return html`<tr data-map="${k}">
<th scope="row" data-csv="${map.step}"><button type="button" data-go="${k}">step ${map.step}</button>${mark}</th>
${cells.map(([shown, csv]) => html`<td${dataCsv(csv)}>${shown}</td>`)}
</tr>
`;
}

function originRewardHtml({ summary: { originReward: value, originRewardReach: reach = null } }: LandscapeMap): Markup {
  if (Number.isNaN(value)) return html`not measured`;
  return html`${fixed(value, 3)}${reach === null ? null : html` <span class="range">± ${fixed(reach, 3)}</span>`}`;
}

function meanRow(mean: SliceMean, further: number): Markup {
  const known = (estimate: DrawnEstimate) =>
    estimate === null ? html`<span class="undetermined">fewer than five slices known</span>` : estimateHtml(estimate);
  return html`<tr class="mean">
<th scope="row" data-csv="${mean.step}">step ${mean.step}</th><td>mean</td><td data-csv="|"></td>
${CORRELATIONS.map((name) => html`<td data-csv="${estimateCsv(mean[name])}">${known(mean[name])}</td>`)}
${Array.from({ length: further + 1 }, () => html`<td></td>`)}
</tr>
`;
}

/** Slopes of the correlations over the checkpoints, per ten steps; null without a slice of several checkpoints. */
export function trendTable({ trends = [] }: Study): Markup | null {
  if (trends.length === 0) return null;
  const perTen = ({ value, low, high }: CorrelationTrend["r"]): DrawnEstimate =>
    value === null
      ? null
      : { value: 10 * value, low: low === null ? null : 10 * low, high: high === null ? null : 10 * high };
  return html`<section aria-labelledby="trends">
<h2 id="trends">Trend over the checkpoints, per 10 steps</h2>
${copyButtons("trend", "the table of trends")}
<div class="scroll" tabindex="0" role="region" aria-labelledby="trends">
<table id="trend">
<thead><tr><th scope="col">slice</th><th scope="col">steps</th><th scope="col" data-csv="${csvNames("r_per_10_steps")}"><i>r</i></th><th scope="col" data-csv="${csvNames("r_infinity_per_10_steps")}"><i>r</i><sub>∞</sub></th></tr></thead>
<tbody>
${trends.map(
  ({ slice, steps, r, rInfinity }) => html`<tr>
<th scope="row">${slice}</th><td>${steps.join(", ")}</td><td data-csv="${estimateCsv(perTen(r))}">${estimateHtml(perTen(r))}</td><td data-csv="${estimateCsv(perTen(rInfinity))}">${estimateHtml(perTen(rInfinity))}</td>
</tr>
`,
)}
</tbody>
</table>
</div>
<p class="caption">Slope of a straight line through the checkpoints. In brackets: nominal 95% jackknife interval, each prompt deleted from all checkpoints at once.</p>
</section>`;
}

export function definitions(): Markup {
  const entry = (name: Part, meaning: Part): Markup => html`<dt>${name}</dt><dd>${meaning}</dd>
`;
  const kl =
    " exact over the vocabulary, per token of completions sampled from the checkpoint. It is 0 at the checkpoint by " +
    "construction and grows with distance. That reward is also high there is a finding, not a construction.";
  return html`<section aria-labelledby="reading-guide">
<h2 id="reading-guide">How to read this</h2>
<dl class="definitions">
${entry(labelHtml(CORRELATION_LABELS.r.symbol), `${capital(TERMS.r)}.`)}
${entry(labelHtml(CORRELATION_LABELS.rInfinity.symbol), `${capital(TERMS.rInfinity)}.`)}
${entry(labelHtml(CORRELATION_LABELS.withinRing.symbol), `${capital(TERMS.withinRing)}.`)}
${entry("Undetermined", `${capital(TERMS.undetermined)}.`)}
${entry("KL", html`KL(π<sub>θ</sub> ‖ π<sub>θ(α,β)</sub>),${kl}`)}
${entry(html`<i>J</i>`, "The clipped GRPO objective on completions sampled from the checkpoint, normalised over the tokens of each group.")}
${entry("Intervals", "Neighbouring cells share prompts and noise, so they are not independent and no p-value is given. Intervals are made by resampling prompts.")}
</dl>
</section>`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** More settings are on screen alone. */
const MOST_PAPER_SETTINGS = 20;

export function settingsTable({ settings }: Study): Markup | null {
  if (settings.length === 0) return null;
  const rows = settings.map(
    ({ key, value }) => html`<tr><th scope="row">${key}</th><td>${String(value)}</td></tr>
`,
  );
  const offPaper = html` class="off-paper"`;
  return html`<section aria-labelledby="with"${rows.length > MOST_PAPER_SETTINGS ? offPaper : null}>
<h2 id="with">Settings</h2>
${copyButtons("settings", "the settings")}
<div class="scroll" tabindex="0" role="region" aria-labelledby="with">
<table id="settings">
<thead><tr><th scope="col">setting</th><th scope="col">value</th></tr></thead>
<tbody>
${rows}
</tbody>
</table>
</div>
</section>
${rows.length > MOST_PAPER_SETTINGS ? html`<p class="caption on-paper">Settings: not on paper. The report on screen and config.toml of the run folder have all ${rows.length}.</p>` : null}`;
}

const significant = (value: number): string =>
  Number.isNaN(value) ? "" : String(Number(value.toPrecision(3))).replace("-", "−");
