// The interactive part of the report: one of the maps, its scatter plot, and the numbers of the chosen cell. The page
// holds every map as a figure and shows one. Without a script it shows the reward map of the last checkpoint and says
// so.
import { PAGE } from "./figures/colour.ts";
import { CORRELATION_LABELS, type CorrelationName } from "./figures/correlation.ts";
import {
  distinct,
  hasObjective,
  type LandscapeMap,
  QUANTITIES,
  type Quantity,
  type Study,
} from "./figures/figure-data.ts";
import { heatmapFigure } from "./figures/heatmap.ts";
import { rewardKlFigure } from "./figures/reward-kl.ts";
import type { Markup } from "./figures/svg.ts";
import { html, labelHtml } from "./html.ts";
import { estimateHtml } from "./page-tables.ts";

const CORRELATIONS: readonly CorrelationName[] = ["r", "rInfinity", "withinRing"];

/** @param study  with at least one map, in order */
export function explorer(study: Study): Markup {
  const { maps } = study;
  const shown = firstShown(maps);
  return html`<section aria-label="The landscape">
<noscript><p class="no-script">${withoutScript(maps[shown].step)}</p></noscript>
${controls(maps)}
<div class="explorer">
<div>
<div id="map" tabindex="0" role="application" aria-roledescription="heat map"
  aria-label="Heat map over alpha and beta. Arrow keys move from cell to cell, Home goes to the checkpoint."
  aria-describedby="reading">
${maps.map((map, k) => mapFigures(maps, map, k, shown))}
</div>
</div>
<div>
${reading()}
${maps.map((map, k) => estimates(map, k, shown))}
<div id="scatter">
${maps.map((map, k) => scatterFigure(maps, map, k, shown))}
</div>
<p class="caption">In brackets: ${study.intervalName ?? "interval over prompts"}. ± in this page: half the width of the 95% interval over prompts.</p>
</div>
</div>
</section>`;
}

const withoutScript = (step: number): string =>
  `This page needs JavaScript to choose checkpoint, quantity and cell. Without it the reward map of step ${step} is shown; ` +
  "the maps of all checkpoints are in the folder “figures” beside this file.";

/** Index of the map shown first: the last checkpoint's, in its first slice. */
function firstShown(maps: readonly LandscapeMap[]): number {
  const last = maps[maps.length - 1].step;
  return maps.findIndex((map) => map.step === last);
}

function controls(maps: readonly LandscapeMap[]): Markup {
  const steps = distinct(maps.map((map) => map.step));
  const slices = distinct(maps.map((map) => map.slice));
  const last = steps.length - 1;
  return html`<div id="controls" hidden>
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

/**
 * The figures of one map. Each quantity uses the colour scale of all maps; if there are several maps, a second figure
 * uses its own scale.
 */
function mapFigures(maps: readonly LandscapeMap[], map: LandscapeMap, k: number, shown: number): Markup {
  const quantities = QUANTITIES.filter((quantity) => quantity !== "objective" || hasObjective(map));
  return html`${quantities.flatMap((quantity) =>
    (maps.length === 1 ? [false] : [false, true]).map((isOwn) => {
      const over = isOwn ? [map] : comparable(maps, quantity);
      const figure = heatmapFigure([map], quantity, { ...PAGE_FIGURE, over });
      const isHidden = !(k === shown && quantity === "reward" && !isOwn);
      return html`<figure data-map="${k}" data-quantity="${quantity}" data-colours="${isOwn ? "own" : "shared"}"${isHidden ? html` hidden` : null}>${{ markup: figure.svg }}</figure>
`;
    }),
  )}`;
}

const PAGE_FIGURE = { widthMm: 112, fontPt: 8.5, theme: PAGE, isLinked: true } as const;

function comparable(maps: readonly LandscapeMap[], quantity: Quantity): readonly LandscapeMap[] {
  return quantity === "objective" ? maps.filter(hasObjective) : maps;
}

function scatterFigure(maps: readonly LandscapeMap[], map: LandscapeMap, k: number, shown: number): Markup {
  const { svg } = rewardKlFigure([map], { ...PAGE_FIGURE, over: maps });
  return html`<figure data-map="${k}"${k === shown ? null : html` hidden`}>${{ markup: svg }}</figure>
`;
}

/** Filled by the script. */
function reading(): Markup {
  return html`<div class="reading" id="reading" aria-live="polite" hidden>
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
<dd>${estimateHtml(summary[name], summary.determined?.[name])}</dd>`,
  );
  return html`<dl class="estimates" data-estimates="${k}"${k === shown ? null : html` hidden`}>
${rows}
</dl>`;
}
