// The claims of the report: for each what is claimed, what may be concluded, what would have refuted it, its figure and
// its tables. All of it comes from landscape/statistics/claims.
import type { Claim, ClaimCell, ClaimTable } from "../statistics/claims/claim.ts";
import { claimFigure } from "./figures/claim-figure.ts";
import { PAGE } from "./figures/colour.ts";
import type { Study } from "./figures/figure-data.ts";
import type { Markup } from "./figures/svg.ts";
import { html, type Part } from "./html.ts";
import { copyButtons } from "./page-tables.ts";
import { estimateText, numberText } from "./wording.ts";

/** Longer tables show their first and last rows, and name the file that has all of them. */
const MOST_ROWS = 40;
/** On paper, the same with fewer. */
const MOST_PAPER_ROWS = 10;
/** Letters in a row of a table that fits half of the width of a sheet of A4. */
const HALF_SHEET = 74;

/** Null without claims. */
export function claimsSection({ claims = [] }: Study): Markup | null {
  if (claims.length === 0) return null;
  return html`<section aria-labelledby="claims">
<h2 id="claims">Claims</h2>
<p class="caption">Each conclusion is chosen by rule from nominal 95% intervals over prompts; docs/metrics.md has the formulas and the simulated coverage. In brackets: the interval.</p>
${claims.map(article)}
</section>`;
}

function article(claim: Claim): Markup {
  const { name, title, claimed, concluded, verdict, refutedBy, limits, tables, plot } = claim;
  const sentence = (term: string, text: string | null): Part =>
    text === null
      ? null
      : html`<dt>${term}</dt><dd>${text}</dd>
`;
  return html`<article id="claim-${name}">
<h3>${title}</h3>
<dl class="definitions">
${sentence("Claimed", claimed)}${sentence(claimed === null ? "Measured" : `Concluded: ${verdict}`, concluded)}${sentence("Would have refuted it", refutedBy)}${limits.map((limit) => sentence("Mind", limit))}</dl>
${plot === null ? null : html`<figure>${{ markup: claimFigure(claim, { widthMm: 104, fontPt: 8, theme: PAGE }).svg }}</figure>`}
${tables.map((table, k) => tableOf(table, `claim-${name}-${k}`))}
</article>
`;
}

/** @param file  has the rows that a long table leaves out */
export function tableOf({ caption, columns, rows }: ClaimTable, id: string, file = "landscape/claims.json"): Markup {
  const isLong = rows.length > MOST_ROWS;
  const half = MOST_ROWS / 2;
  const shown = isLong ? [...rows.slice(0, half), ...rows.slice(-half)] : rows;
  const isOnPaper = (k: number): boolean =>
    shown.length <= MOST_PAPER_ROWS || k < MOST_PAPER_ROWS / 2 || k >= shown.length - MOST_PAPER_ROWS / 2;
  const rowMarkup = (row: (typeof rows)[number], k: number): Markup =>
    html`<tr${isOnPaper(k) ? null : html` class="off-paper"`}>${row.map((cell, c) => html`<td>${cellText(cell, columns[c].digits)}</td>`)}</tr>
`;
  return html`${copyButtons(`${id}-table`, caption)}
<div class="scroll${lettersIn(columns, shown) > HALF_SHEET ? " wide" : ""}" tabindex="0" role="region" aria-labelledby="${id}">
<table id="${id}-table">
<thead><tr>${columns.map(({ name }) => html`<th scope="col">${name}</th>`)}</tr></thead>
<tbody>
${shown.map(rowMarkup)}
</tbody>
</table>
</div>
<p class="caption" id="${id}">${caption}${isLong ? ` Shown: the first and the last ${half} of ${rows.length} rows; ${file} has all.` : null}${
    shown.length > MOST_PAPER_ROWS
      ? html`<span class="on-paper"> On paper: the first and the last ${MOST_PAPER_ROWS / 2} rows. The report on screen has more, ${file} all ${rows.length}.</span>`
      : null
  }</p>
`;
}

/** The widest text of each column, together. Names of columns break at spaces. */
function lettersIn(columns: ClaimTable["columns"], rows: ClaimTable["rows"]): number {
  const letters = (cell: ClaimCell, digits: number | undefined): number => {
    if (cell === null || typeof cell === "string") return cell?.length ?? 1;
    if (typeof cell === "number") return numberText(cell, digits).length;
    const { value, range } = estimateText(cell, digits ?? 2);
    return value.length + 1 + (range?.length ?? 0);
  };
  const widest = columns.map(({ name, digits }, c) =>
    Math.max(...name.split(" ").map((word) => word.length), ...rows.map((row) => letters(row[c], digits))),
  );
  return widest.reduce((sum, width) => sum + width + 1, 0);
}

function cellText(cell: ClaimCell, digits: number | undefined): Part {
  if (cell === null) return "–";
  if (typeof cell === "string") return cell;
  if (typeof cell === "number") return numberText(cell, digits);
  const { value, range } = estimateText(cell, digits ?? 2);
  return range === null ? html`${value}` : html`${value} <span class="range">${range}</span>`;
}
