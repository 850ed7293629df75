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
