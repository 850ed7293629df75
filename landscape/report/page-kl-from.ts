// The report's section on KL from the policies of other checkpoints: maps of the first slice, and a table of all.
import { klFromTable } from "../statistics/kl-from.ts";
import { PAGE } from "./figures/colour.ts";
import { distinct, type Study } from "./figures/figure-data.ts";
import { klFromFigure, klFromKind } from "./figures/kl-from.ts";
import type { Markup } from "./figures/svg.ts";
import { html } from "./html.ts";
import { tableOf } from "./page-claims.ts";

/** Null if the run has none. */
export function klFromSection(study: Study): Markup | null {
  const { maps, klFrom = [] } = study;
  if (klFrom.length === 0) return null;
  const slice = Math.min(...klFrom.map((map) => map.slice));
  // As in the claims: the first, the middle and the last checkpoint.
  const steps = distinct(klFrom.map(({ step }) => step));
  const drawnSteps = new Set([0, Math.floor((steps.length - 1) / 2), steps.length - 1].map((k) => steps[k]));
  const shown = { ...study, maps: maps.filter((map) => map.slice === slice && drawnSteps.has(map.step)) };
  const isPart = steps.length > drawnSteps.size || new Set(klFrom.map((map) => map.slice)).size > 1;
  const drawn =
    klFromKind.missing(shown) === null
      ? klFromFigure(shown, { widthMm: 174, fontPt: 8, theme: PAGE, areImages: true })
      : null;
  return html`<section aria-labelledby="kl-from">
<h2 id="kl-from">KL from other checkpoints</h2>
<p class="caption">One and the same grid, with KL from the policies of other checkpoints beside that from the checkpoint in its centre.${
    isPart ? ` Drawn: slice ${slice} of step ${[...drawnSteps].join(", ")}.` : null
  }</p>
${drawn === null ? null : html`<figure>${{ markup: drawn.svg }}</figure>`}
${tableOf(klFromTable(klFrom), "kl-from-0", "landscape/kl-from.json")}
</section>`;
}
