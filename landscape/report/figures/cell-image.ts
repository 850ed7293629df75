// The cells of a map as a small PNG inside a figure. A page with sixteen maps would hold seven thousand squares in each
// of its quantities; as pictures they are a few kilobytes. The colours are those of the squares, without smoothing.
//
// Source: Portable Network Graphics (PNG) Specification, third edition, W3C 2025.
import { crc32, deflateSync } from "node:zlib";
import { type ColourScale, colourIndex } from "./colour.ts";

/**
 * The map as a PNG in a data address, a pixel per cell, beta upwards. Its element says image-rendering="pixelated", so that
 * an enlarged pixel keeps its edges.
 * @param values  n × n, entry j·n + i; NaN becomes transparent
 */
export function cellImage(values: Float64Array, n: number, colours: ColourScale): string {
  const hasGaps = values.some(Number.isNaN);
  // In a map with gaps, entry 0 of the palette is transparent, and its colour is drawn by its neighbour.
  const entry = (value: number): number =>
    Number.isNaN(value) ? 0 : Math.max(hasGaps ? 1 : 0, colourIndex(colours, value));
  const lines = Array.from({ length: n }, (_, y) => [
    0, // no filter
    ...Array.from(values.subarray((n - 1 - y) * n, (n - y) * n), entry),
  ]);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(n, 0);
  header.writeUInt32BE(n, 4);
  header.set([8, 3], 8); // 8 bits per pixel, with a palette
  const png = Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(colours.table.map((colour) => colour.slice(1)).join(""), "hex")),
    ...(hasGaps ? [chunk("tRNS", Buffer.from([0]))] : []),
    chunk("IDAT", deflateSync(Buffer.from(lines.flat()), { level: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  return `data:image/png;base64,${png.toString("base64")}`;
}

function chunk(type: string, content: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), content]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(content.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
