// Colours of figures. Maps use viridis, whose lightness rises evenly: it is readable in grey and for colour-blind
// readers. Signed differences use red to blue, white at zero; their isolines are dashed below zero, so that grey print
// keeps the sign.
import { interpolateRdBu, interpolateViridis } from "d3-scale-chromatic";

export interface ColourScale {
  kind: "sequential" | "diverging";
  domain: readonly [number, number];
  /** 256 colours, "#rrggbb", spaced evenly over the domain. */
  table: readonly string[];
}

/** Colours of everything but the maps: hex for files, custom properties for a page with light and dark. */
export interface Theme {
  ink: string;
  muted: string;
  faint: string;
  paper: string;
  accent: string;
}

export const PRINT: Theme = {
  ink: "#1d1f24",
  muted: "#6a6f7a",
  faint: "#dfe1e6",
  paper: "#ffffff",
  accent: "#b3401f",
};

export const PAGE: Theme = {
  ink: "var(--ink)",
  muted: "var(--muted)",
  faint: "var(--faint)",
  paper: "none",
  accent: "var(--accent)",
};

const ENTRIES = 256;
const table = (interpolate: (t: number) => string) =>
  Array.from({ length: ENTRIES }, (_, k) => toHex(interpolate(k / (ENTRIES - 1))));
export const SEQUENTIAL: readonly string[] = table(interpolateViridis);
export const DIVERGING: readonly string[] = table(interpolateRdBu);

/** From the smallest to the largest value; a flat map gets the middle colour. */
export function sequential(low: number, high: number): ColourScale {
  return { kind: "sequential", domain: low < high ? [low, high] : [low - 0.5, high + 0.5], table: SEQUENTIAL };
}

/** Symmetric about zero, which is white. */
export function diverging(low: number, high: number): ColourScale {
  const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return { kind: "diverging", domain: [-reach, reach], table: DIVERGING };
}

/** Relative luminance of "#rrggbb", 0 (black) to 1 (white). Source: IEC 61966-2-1. */
export function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The colour of a value; outside the domain, that of the nearer end. */
export function colourOf(colours: ColourScale, value: number): string {
  return colours.table[colourIndex(colours, value)];
}

/** The entry of the table that a value has. */
export function colourIndex({ domain: [low, high], table }: ColourScale, value: number): number {
  const position = Math.round(((value - low) / (high - low)) * (table.length - 1));
  return Math.min(table.length - 1, Math.max(0, position));
}

/** d3 writes viridis as "#rrggbb" and interpolated schemes as "rgb(r, g, b)". */
function toHex(colour: string): string {
  const channels = colour.match(/^rgb\((\d+), (\d+), (\d+)\)$/);
  if (channels === null) return colour;
  return `#${channels
    .slice(1)
    .map((channel) => Number(channel).toString(16).padStart(2, "0"))
    .join("")}`;
}

/** How one of several curves is drawn: neighbours differ in colour, in dashes and in the shape of their points. */
export interface CurveStyle {
  colour: string;
  /** Lengths of dashes and gaps in em; empty: a whole line. */
  dash: readonly number[];
  marker: "circle" | "square" | "triangle" | "diamond";
}

const DASHES: readonly (readonly number[])[] = [[], [0.8, 0.35], [0.2, 0.3], [0.9, 0.3, 0.2, 0.3], [0.45, 0.3]];
const MARKERS = ["circle", "square", "triangle", "diamond"] as const;

/** The lightest colour of viridis with a contrast of 3 to 1 on white paper, as WCAG asks of lines; 0 to 1. */
const LIGHTEST_CURVE = 0.59;

/** Styles of `count` curves in an order: from dark to light, so that grey print keeps the order too. */
export function curveStyles(count: number): CurveStyle[] {
  return Array.from({ length: count }, (_, k) => ({
    colour: SEQUENTIAL[Math.round((LIGHTEST_CURVE * (ENTRIES - 1) * k) / Math.max(1, count - 1))],
    dash: DASHES[k % DASHES.length],
    marker: MARKERS[k % MARKERS.length],
  }));
}
