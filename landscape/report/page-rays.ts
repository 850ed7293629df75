// The report's section on random rays: figure, tables, and what is not reached.
import type { DensityShown } from "../statistics/rays/density-table.ts";
import type { WorstShown } from "../statistics/rays/worst-table.ts";
import { PAGE } from "./figures/colour.ts";
import { densityKind } from "./figures/density.ts";
import type { Study } from "./figures/figure-data.ts";
import { raysKind } from "./figures/rays.ts";
import type { Markup } from "./figures/svg.ts";
import { worstRaysKind } from "./figures/worst-rays.ts";
import { html } from "./html.ts";
import { tableOf } from "./page-claims.ts";

function worstPart(study: Study, { sentences, table }: WorstShown): Markup {
  const { svg } = worstRaysKind.draw(study, { widthMm: 104, fontPt: 8, theme: PAGE });
  return html`<h3>Worst-case rays</h3>
${sentences.map((sentence) => html`<p>${sentence}</p>`)}
<figure>${{ markup: svg }}</figure>
${tableOf(table, "worst-rays", "landscape/rays.json")}`;
}

function densityPart(study: Study, { sentences, table }: DensityShown): Markup {
  const { svg } = densityKind.draw(study, { widthMm: 104, fontPt: 8, theme: PAGE });
  return html`<h3>Density of improving neighbours</h3>
${sentences.map((sentence) => html`<p>${sentence}</p>`)}
<figure>${{ markup: svg }}</figure>
${tableOf(table, "density", "landscape/rays.json")}`;
}

/** Null without rays. */
export function raysSection(study: Study): Markup | null {
  const { rays } = study;
  if (!rays) return null;
  const { svg } = raysKind.draw(study, { widthMm: 104, fontPt: 8, theme: PAGE });
  return html`<section aria-labelledby="rays">
<h2 id="rays">Rays</h2>
<p class="caption">Random directions through the checkpoint. Each ray is an independent unit; its two halves belong together.</p>
${rays.sentences.map((sentence) => html`<p>${sentence}</p>`)}
<figure>${{ markup: svg }}</figure>
${rays.tables.map((table, k) => tableOf(table, `rays-${k}`, "landscape/rays.json"))}
${rays.density === null ? null : densityPart(study, rays.density)}
${rays.worst === null ? null : worstPart(study, rays.worst)}
</section>`;
}
