// SVG to PNG by resvg, with the fonts of this folder only: the same picture on every
// machine, whatever fonts it has. Source Sans 3 is licensed under the SIL Open Font License (fonts/LICENSE.md).
import { fileURLToPath } from "node:url";
import { type ResvgRenderOptions, renderAsync } from "@resvg/resvg-js";

const fontFile = (name: string) => fileURLToPath(new URL(`./fonts/${name}`, import.meta.url));
const FONT: ResvgRenderOptions["font"] = {
  loadSystemFonts: false,
  fontFiles: [fontFile("SourceSans3-Regular.ttf"), fontFile("SourceSans3-It.ttf")],
  defaultFontFamily: "Source Sans 3",
};

/** The widest picture that is drawn. */
export const MOST_PIXELS = 20_000;

/**
 * The picture, `widthPx` pixels wide, with the height that its shape requires. It is drawn on a thread of its own, so
 * several pictures are drawn at once.
 * @throws RangeError for a width that is not a whole number from 1 to 20,000
 */
export async function renderPng(svg: string, widthPx: number): Promise<Uint8Array> {
  if (!Number.isInteger(widthPx) || widthPx < 1 || widthPx > MOST_PIXELS)
    throw new RangeError(`PNG: expected a width of 1 to ${MOST_PIXELS} pixels, got ${widthPx}`);
  return (await renderAsync(svg, { font: FONT, fitTo: { mode: "width", value: widthPx } })).asPng();
}

/** Pixels of a width in millimetres at this number of dots per inch. */
export function pixelsOf(widthMm: number, dotsPerInch: number): number {
  return Math.round((widthMm / 25.4) * dotsPerInch);
}
