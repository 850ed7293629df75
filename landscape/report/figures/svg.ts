// SVG as text: elements with escaped attributes and text, numbers with two decimals.
//
// Markup has its own type, so a plain string is always text and gets escaped: model output, file names and notes cannot
// become elements. Lengths are points (1/72 inch) and numbers are rounded to 0.01, a tenth of a printer's dot. Rounding
// also makes the bytes of a figure the same on every machine.

import { advanceOf } from "./true-type.ts";

/** Finished markup. Only `element` and `join` make it; everything else is text and is escaped. */
export interface Markup {
  readonly markup: string;
}

export type Child = Markup | string | null;
export type Attributes = Readonly<Record<string, string | number | null | undefined>>;

/** A line of text with variables in italics and indices as subscripts: ["against ", {italic: "r"}, {sub: "∞"}]. */
export type Label = string | readonly LabelPart[];
export type LabelPart = string | { readonly italic: string } | { readonly sub: string };

/** Points per millimetre: the user unit of a figure is the point; its size is given in millimetres. */
export const POINTS_PER_MM = 72 / 25.4;

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Escapes text for XML and HTML, element content and quoted attributes alike; what XML forbids becomes U+FFFD. */
export function escapeText(text: string): string {
  const allowed = text
    .toWellFormed()
    .replace(/[\p{Cc}\ufffe\uffff]/gu, (character) => ("\t\n\r".includes(character) ? character : "\ufffd"));
  return allowed.replace(/[&<>"']/g, (character) => ENTITIES[character]);
}

/**
 * A number with at most two decimals and no "-0". Throws RangeError on NaN and infinities, which a figure cannot show.
 */
export function decimal(value: number): string {
  if (!Number.isFinite(value)) throw new RangeError(`svg: expected a finite number, got ${value}`);
  return String(Math.round(value * 100) / 100 + 0);
}

/** <name attributes>children</name>; an attribute that is null or undefined is left out. */
export function element(name: string, attributes: Attributes, ...children: readonly Child[]): Markup {
  let open = `<${name}`;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    open += ` ${key}="${typeof value === "number" ? decimal(value) : escapeText(value)}"`;
  }
  const content = join(children).markup;
  return { markup: content === "" ? `${open}/>` : `${open}>${content}</${name}>` };
}

export function join(children: readonly Child[], separator = ""): Markup {
  const texts = children.map((child) =>
    child === null ? "" : typeof child === "string" ? escapeText(child) : child.markup,
  );
  return { markup: texts.join(separator) };
}

/** The `d` of a path through the points; a line whose ends meet is closed. */
export function pathData(points: readonly (readonly [number, number])[]): string {
  const isClosed = points.length > 2 && String(points[0]) === String(points[points.length - 1]);
  const kept = isClosed ? points.slice(0, -1) : points;
  const d = kept.map(([x, y], k) => `${k === 0 ? "M" : "L"}${decimal(x)} ${decimal(y)}`).join("");
  return isClosed ? `${d}Z` : d;
}

/** A text element at (x, y), baseline at y. */
export function textElement(label: Label, x: number, y: number, attributes: Attributes = {}): Markup {
  return element("text", { x, y, ...attributes }, ...spans(label));
}

/** The label as tspans; an index is lowered by a quarter of an em, and the text after it is raised again. */
function spans(label: Label): Child[] {
  if (typeof label === "string") return [label];
  let lowered = false;
  return label.map((part) => {
    const isSub = typeof part !== "string" && "sub" in part;
    const dy = isSub === lowered ? null : isSub ? "0.25em" : "-0.18em"; // 0.18 em of full size = 0.25 em of 72%
    lowered = isSub;
    if (typeof part === "string") return dy === null ? part : element("tspan", { dy }, part);
    if ("sub" in part) return element("tspan", { dy, "font-size": "72%" }, part.sub);
    return element("tspan", { dy, "font-style": "italic" }, part.italic);
  });
}

/** The label as plain text, for titles and CSV. */
export function plain(label: Label): string {
  if (typeof label === "string") return label;
  return label.map((part) => (typeof part === "string" ? part : "sub" in part ? part.sub : part.italic)).join("");
}

/** The width of a text in points, without kerning, as the figures' font sets it. */
export function textWidth(label: Label, fontPt: number): number {
  if (typeof label === "string") return fontPt * advanceOf(label);
  return label.reduce((width, part) => {
    if (typeof part === "string") return width + fontPt * advanceOf(part);
    return width + fontPt * ("sub" in part ? 0.72 * advanceOf(part.sub) : advanceOf(part.italic, "italic"));
  }, 0);
}

/** A whole SVG document, sized in millimetres, its user unit one point. */
export function svgDocument(
  size: { widthPt: number; heightPt: number; fontPt: number },
  title: string,
  colours: { ink: string; paper: string },
  content: readonly Child[],
): string {
  const { widthPt, heightPt, fontPt } = size;
  const root = element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      width: `${decimal(widthPt / POINTS_PER_MM)}mm`,
      height: `${decimal(heightPt / POINTS_PER_MM)}mm`,
      viewBox: `0 0 ${decimal(widthPt)} ${decimal(heightPt)}`,
      role: "img",
      "aria-label": title,
      "font-family": "'Source Sans 3','Source Sans Pro',sans-serif",
      "font-size": fontPt,
      fill: colours.ink,
    },
    element("rect", { width: widthPt, height: heightPt, fill: colours.paper }),
    ...content,
  );
  return `${root.markup}\n`;
}

/** The width of a document made by svgDocument, in millimetres. */
export function svgWidthMm(svg: string): number {
  return Number(/^<svg [^>]*width="([\d.]+)mm"/.exec(svg)?.[1]);
}
