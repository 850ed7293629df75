// The report's table of directions: what each slice was measured along, and which parameters the perturbation moves.
import { type AxisFacts, axisText, centreText, type SliceFacts } from "../files/slice-facts.ts";
import { distinct, type LandscapeMap, type Study } from "./figures/figure-data.ts";
import type { Markup } from "./figures/svg.ts";
import { html, type Part } from "./html.ts";
import { copyButtons } from "./page-tables.ts";
import { fixed } from "./wording.ts";

/** A longer table is on screen alone. */
const MOST_PAPER_ROWS = 12;

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];

/** One row per direction of each map; null if no map has facts (runs of earlier versions). */
export function directionTable({ maps }: Study): Markup | null {
  const known = maps.flatMap((map) => (map.directions ? [{ map, facts: map.directions }] : []));
  const rows = known.flatMap(({ map, facts }) =>
    [["δ", facts.delta] as const, ["η", facts.eta] as const].flatMap(([axis, own]) =>
      own === undefined ? [] : [{ map, facts, axis, own }],
    ),
  );
  if (rows.length === 0) return null;
  const groups = unique(rows.flatMap(({ own }) => Object.keys(own.shares)));
  const hasSlices = distinct(maps.map((map) => map.slice)).length > 1;
  const head: Part[] = ["checkpoint", ...(hasSlices ? ["slice"] : []), "", "direction", "length", ...groups, "cosine"];
  const absent = maps.length - known.filter(({ facts }) => facts.delta !== undefined).length;
  const isLong = rows.length > MOST_PAPER_ROWS;
  const offPaper = html` class="off-paper"`;
  return html`<section aria-labelledby="directions"${isLong ? offPaper : null}>
<h2 id="directions">Directions</h2>
${copyButtons("direction-shares", "the table of directions")}
<div class="scroll" tabindex="0" role="region" aria-labelledby="directions">
<table id="direction-shares">
<thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
<tbody>
${rows.map((row) => tableRow(row, groups, hasSlices))}
</tbody>
</table>
</div>
<p class="caption">Each group’s share of the squared norm of the direction: how the perturbation is spread over the parameters. Length: the norm over all moved parameters. Cosine: between δ and η, over all moved parameters.${
    absent > 0 ? ` ${absent} of ${maps.length} maps have no such facts.` : ""
  }</p>
${scaleNote(known.map(({ facts }) => facts))}
${centreNote(known.map(({ facts }) => facts))}
</section>
${isLong ? html`<p class="caption on-paper">Directions: not on paper. The report on screen has their ${rows.length} rows, and slice.json of each map has their numbers.</p>` : null}`;
}

function tableRow(
  { map, facts, axis, own }: { map: LandscapeMap; facts: SliceFacts; axis: "δ" | "η"; own: AxisFacts },
  groups: readonly string[],
  hasSlices: boolean,
): Markup {
  const share = (group: string): string => {
    const value = own.shares[group];
    return value === undefined ? "–" : `${(100 * value).toFixed(1)}%`;
  };
  return html`<tr>
<th scope="row">step ${map.step}</th>${hasSlices ? html`<td>${map.slice}</td>` : null}<td>${axis}</td><td>${axisText(own)}</td><td>${own.length.toPrecision(3)}</td>${groups.map((group) => html`<td>${share(group)}</td>`)}<td>${axis === "η" && facts.cosine !== undefined ? fixed(facts.cosine, 3) : ""}</td>
</tr>
`;
}

/** What a reader must know if the directions are scaled to a KL. */
function scaleNote(all: readonly SliceFacts[]): Markup | null {
  const scaled = all.map(({ fixedKl }) => fixedKl).find((one) => one !== undefined);
  if (scaled === undefined) return null;
  return html`<p class="caption"><strong>KL at the edge is ${String(scaled.target)} nats per token in every map.</strong> Each direction is scaled by itself until KL from the checkpoint is within 5% of that at α = ${String(scaled.radius)}, β = 0, and at α = 0, β = ${String(scaled.radius)}. So the same α is another distance in each map; the table above has the scales and the KL reached, and the length of each scaled direction is here.</p>`;
}

/** What a reader must know if the grid's centre is not the checkpoint. */
function centreNote(all: readonly SliceFacts[]): Markup | null {
  const places = unique(all.flatMap((facts) => centreText(facts) ?? []));
  if (places.length === 0) return null;
  return html`<p class="caption"><strong>The centre of the grid is not the checkpoint.</strong> It is beside it: ${places.join("; ")}. KL and <i>J</i> still compare with the checkpoint, so KL is not 0 in the centre; α, β, radii and <i>R</i>(0, 0) are those of the grid.</p>`;
}
