// The report's section on KL from the policies of other checkpoints: maps of the first slice, and a table of all.
import { klFromTable } from "../statistics/kl-from.ts";
import { PAGE } from "./figures/colour.ts";
import type { Study } from "./figures/figure-data.ts";
import { klFromKind } from "./figures/kl-from.ts";
import type { Markup } from "./figures/svg.ts";
import { html } from "./html.ts";
import { tableOf } from "./page-claims.ts";

/** Null if the run has none. */
export function klFromSection(study: Study): Markup | null {
  const { maps, klFrom = [] } = study;
  if (klFrom.length === 0) return null;
  const slice = Math.min(...klFrom.map((map) => map.slice));
  const shown = { ...study, maps: maps.filter((map) => map.slice === slice) };
  const drawn =
    klFromKind.missing(shown) === null ? klFromKind.draw(shown, { widthMm: 174, fontPt: 8, theme: PAGE }) : null;
  return html`<section aria-labelledby="kl-from">
<h2 id="kl-from">KL from other checkpoints</h2>
<p class="caption">One and the same grid, with KL from the policies of other checkpoints beside that from the checkpoint in its centre.${
    new Set(klFrom.map((map) => map.slice)).size > 1 ? ` Drawn: slice ${slice}.` : null
  }</p>
${drawn === null ? null : html`<figure>${{ markup: drawn.svg }}</figure>`}
${tableOf(klFromTable(klFrom), "kl-from", "landscape/kl-from.json")}
</section>`;
}
