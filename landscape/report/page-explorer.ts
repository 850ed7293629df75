// The interactive part of the report: one of the maps, its scatter plot and noise, the numbers of the chosen cell, and
// small maps of all checkpoints. Without a script it shows the reward map of the last checkpoint, and says so.
import { CORRELATION_LABELS, type CorrelationName } from "./figures/correlation.ts";
import {
  type DrawnInterval,
  distinct,
  extentOf,
  gridValues,
  type LandscapeMap,
  type Quantity,
  type Study,
} from "./figures/figure-data.ts";
import { colourScaleOf, isolineLevels } from "./figures/heatmap.ts";
import { rewardErrors, smallMap } from "./figures/page/small-map.ts";
import type { Markup } from "./figures/svg.ts";
import { html, labelHtml, type Part } from "./html.ts";
import { type MapFigures, mapFigure } from "./page-figures.ts";
import { estimateHtml, puzzle } from "./page-tables.ts";
import { fixed } from "./wording.ts";

const CORRELATIONS: readonly CorrelationName[] = ["r", "rInfinity", "withinRing"];

/**
 * @param study  with at least one map, in order
 * @param figures  of each map
 */
export function explorer(study: Study, figures: readonly MapFigures[]): Markup {
  const { maps } = study;
  const shown = firstShown(maps);
  const first = figures[shown];
  return html`<section aria-label="The landscape">
<noscript><p class="no-script">${withoutScript(maps[shown].step)}</p></noscript>
<p class="no-script" id="old-browser" hidden>${OLD_BROWSER}</p>
${controls(maps)}
<div class="explorer">
<div>
<div id="map" tabindex="0" role="application" aria-roledescription="heat map"
  aria-label="Heat map over alpha and beta. Arrow keys move from cell to cell, Home goes to the checkpoint, Page Up and Page Down change the training step."
  aria-describedby="announcement">
${drawing(first[mapFigure("reward", "shared")])}
</div>
<p class="tools" data-scripted hidden><button type="button" data-copy="cells">Copy this map as CSV</button></p>
${reading()}
${noiseFloor(maps, shown, first)}
</div>
<div>
${maps.map((map, k) => estimates(map, k, shown))}
<div id="scatter">
${drawing(first["scatter"])}
</div>
${noise(maps, shown, first)}
<p class="caption">In brackets: ${study.intervalName ?? "interval over prompts"}. ± in this page: half the width of the 95% interval over prompts.</p>
</div>
</div>
<p id="announcement" class="for-ears" role="status" aria-live="polite"></p>
</section>`;
}

const OLD_BROWSER =
  "This browser is too old to choose checkpoint, quantity and cell: it cannot unpack the data of this page. Browsers since May 2023 can.";

const withoutScript = (step: number): string =>
  `This page needs JavaScript to choose checkpoint, quantity and cell. Without it the reward map of step ${step} is shown; ` +
  "the maps of all checkpoints are below, and larger in the folder “figures” beside this file.";

const drawing = (svg: string | undefined): Markup | null =>
  svg === undefined ? null : html`<figure>${{ markup: svg }}</figure>`;

/** Index of the map shown first: the last checkpoint's, in its first slice. */
export function firstShown(maps: readonly LandscapeMap[]): number {
  const last = maps[maps.length - 1].step;
  return maps.findIndex((map) => map.step === last);
}

function controls(maps: readonly LandscapeMap[]): Markup {
  const steps = distinct(maps.map((map) => map.step));
  const slices = distinct(maps.map((map) => map.slice));
  const last = steps.length - 1;
  return html`<div id="controls" data-scripted hidden>
<div class="checkpoint-slider">
<label for="step" class="quiet">Checkpoint, step</label>
<output id="step-number" for="step">${steps[last]}</output>
<input type="range" id="step" min="0" max="${last}" step="1" value="${last}"${steps.length === 1 ? html` disabled` : null}>
</div>
${slices.length === 1 ? null : slicePicker(slices)}
<fieldset class="switch">
<legend>Quantity</legend>
${quantityChoice("reward", "Reward", true)}
${quantityChoice("kl", "KL", false)}
${quantityChoice("objective", "Objective", false)}
</fieldset>
<label class="quiet"${maps.length === 1 ? html` hidden` : null}><input type="checkbox" id="own-colours"> colour scale of this map only</label>
</div>`;
}

function slicePicker(slices: readonly number[]): Markup {
  const options = slices.map((slice) => html`<option value="${slice}">${slice}</option>`);
  return html`<div><label class="quiet" for="slice">Slice</label> <select id="slice">${options}</select></div>`;
}

function quantityChoice(value: Quantity, name: string, isChecked: boolean): Markup {
  const checked = isChecked ? html` checked` : null;
  return html`<label><input type="radio" name="quantity" value="${value}"${checked}><span>${name}</span></label>`;
}

/** Filled by the script. */
function reading(): Markup {
  return html`<div class="reading" id="reading" data-scripted hidden>
<p class="where" id="at"></p>
<dl>
<dt class="first"><i>R</i></dt><dd class="first" id="reward"></dd>
<dt>KL</dt><dd id="kl"></dd>
<dt><i>J</i> − <i>J</i>(0, 0)</dt><dd id="objective"></dd>
</dl>
<p class="where gain" id="gain"></p>
</div>`;
}

function estimates({ summary }: LandscapeMap, k: number, shown: number): Markup {
  const rows = CORRELATIONS.map(
    (name) => html`<dt>${labelHtml(CORRELATION_LABELS[name].symbol)}</dt>
<dd>${estimateHtml(summary[name], summary.determined?.[name])}${puzzle(summary[name])}</dd>`,
  );
  return html`<dl class="estimates" data-of-map="${k}"${k === shown ? null : html` hidden`}>
${rows}
</dl>`;
}

/** Under the map: the checkpoint's reward with other rollout noise, and the share of the cells outside of it. Null if not measured. */
function noiseFloor(maps: readonly LandscapeMap[], shown: number, first: MapFigures): Markup | null {
  if (maps.every((map) => map.noiseFloor === undefined)) return null;
  return html`<section aria-labelledby="noise-floor">
<h3 id="noise-floor">What rollout noise alone gives</h3>
<div class="panel" data-panel="noise-floor">${drawing(first["noise-floor"])}</div>
${maps.map((map, k) => html`<p class="caption" data-of-map="${k}"${k === shown ? null : html` hidden`}>${noiseFloorSentences(map)}</p>`)}
</section>`;
}

export function noiseFloorSentences({ noiseFloor }: LandscapeMap): string {
  if (noiseFloor === undefined) return "The noise floor of this checkpoint was not measured.";
  const { draws, mean, deviation, range, below, above, cells } = noiseFloor;
  if (range === null || mean === null || deviation === null)
    return `The checkpoint’s rollouts were drawn again with ${draws.length} other noise seed, which shows no spread.`;
  const interval = ({ low, high }: DrawnInterval): string =>
    low === null || high === null ? "" : ` [${fixed(low, 3)}, ${fixed(high, 3)}]`;
  const percent = (100 * (below + above)) / cells;
  return (
    `The checkpoint’s rollouts were drawn again with ${draws.length} other noise seeds, on the same prompts: mean reward ` +
    `${fixed(mean.value, 3)}${interval(mean)}, standard deviation ${fixed(deviation.value, 4)}${interval(deviation)} (over draws). ` +
    `95% of further draws lie between ${fixed(range.low, 3)} and ${fixed(range.high, 3)}. ` +
    (cells === 0
      ? "The map has no other cell yet."
      : `Of the map’s other cells ${fixed(percent, 0)}% lie outside (${below} below and ${above} above, of ${cells}); with rollout ` +
        "noise alone 5% would be expected. The cells of a map share their noise, so they can lie outside together.")
  );
}

/** The standard errors as a map, and beside them what they mean for this map. */
function noise(maps: readonly LandscapeMap[], shown: number, first: MapFigures): Markup {
  return html`<section class="noise" aria-labelledby="noise">
<h3 id="noise">How noisy this map is</h3>
<div class="panel" data-panel="noise">${drawing(first["noise"])}</div>
<div>${maps.map((map, k) => html`<p class="caption" data-of-map="${k}"${k === shown ? null : html` hidden`}>${noiseSentences(map)}</p>`)}</div>
</section>`;
}

function noiseSentences(map: LandscapeMap): Part {
  const errors = rewardErrors(map)?.filter(Number.isFinite).sort();
  if (errors === undefined || errors.length === 0) return "No standard errors were measured for this map.";
  const median = errors[Math.floor(errors.length / 2)];
  const [low, high] = extentOf(map.points.map(({ reward }) => reward)) ?? [0, 0];
  const { originReward, originRewardReach: reach } = map.summary;
  const atOrigin =
    Number.isNaN(originReward) || typeof reach !== "number"
      ? ""
      : ` At the checkpoint: ${fixed(originReward, 3)} ± ${fixed(reach, 3)}.`;
  return (
    `Standard error of each cell’s reward over prompts; its median is ${fixed(median, 3)}. ` +
    `Reward ranges from ${fixed(low, 3)} to ${fixed(high, 3)} over the map. Cells share prompts and sampling noise, so ` +
    `neighbours differ less than these errors suggest.${atOrigin}`
  );
}

/** Small reward maps of every checkpoint and slice, on one colour scale: an index, and the maps of a print. */
export function everyCheckpoint({ maps }: Study): Markup {
  const colours = colourScaleOf(maps, "reward");
  const levels = isolineLevels(maps, "kl");
  const hasSlices = distinct(maps.map((map) => map.slice)).length > 1;
  const [low, high] = colours.domain;
  return html`<section aria-labelledby="all-maps">
<h2 id="all-maps">Reward around every checkpoint</h2>
<ul class="thumbnails">
${maps.map((map, k) => {
  const name = hasSlices ? `step ${map.step}, slice ${map.slice}` : `step ${map.step}`;
  const values = gridValues(map, "reward");
  const { r } = map.summary;
  const svg = smallMap({ title: `Reward around ${name}`, map, values, colours, levels });
  return html`<li class="thumbnail" data-map="${k}"><button type="button" data-go="${k}" aria-pressed="false">${{ markup: svg }}<span>${name}</span></button>
<span class="caption"><i>r</i> ${r === null ? "undetermined" : fixed(r.value, 2)}${map.mark === undefined ? null : html`, ${map.mark}`}</span></li>
`;
})}
</ul>
<p class="caption">One colour scale for all, from ${fixed(low, 3)} (dark) to ${fixed(high, 3)} (light).${levels.length === 0 ? null : html` Lines: KL of ${levels.map((level) => String(level)).join(", ")} nats per token.`} Ring: the checkpoint.</p>
</section>`;
}
