// HTML from templates: interpolated values are escaped as text unless they are already markup.
import { escapeText, type Label, type Markup } from "./figures/svg.ts";

export type Part = Markup | string | number | null | readonly Part[];

/** HTML from a template. Text is escaped; lists are written one after another; null is left out. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return { markup: strings.map((string, k) => (k === 0 ? "" : written(parts[k - 1])) + string).join("") };
}

function written(part: Part): string {
  if (part === null) return "";
  if (typeof part === "string" || typeof part === "number") return escapeText(String(part));
  return "markup" in part ? part.markup : part.map(written).join("");
}

/** A label of a figure as HTML: variables in italics, indices as subscripts. */
export function labelHtml(label: Label): Markup {
  if (typeof label === "string") return html`${label}`;
  return html`${label.map((part) => {
    if (typeof part === "string") return part;
    return "sub" in part ? html`<sub>${part.sub}</sub>` : html`<i>${part.italic}</i>`;
  })}`;
}

/** Data for the page's script, as base64. */
export function packedScript(id: string, base64: string): Markup {
  return html`<script type="application/octet-stream" id="${id}">${base64}</script>
`;
}
