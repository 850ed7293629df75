// Embeds fonts in SVG files, so that a browser draws a figure's text alike on every machine. Each face has only the
// glyphs that the figure uses, as a WOFF (zlib, which Node has). Kerning is left out. Source Sans 3 is licensed under
// the SIL Open Font License, which allows parts of a font to be embedded in documents (fonts/LICENSE.md).
import { deflateSync } from "node:zlib";
import { checksum, faceOf, padded4, readTables, subsetFont } from "./true-type.ts";

/** The drawing with the faces of its text embedded; a drawing without text is returned as it is. */
export function embedFonts(svg: string): string {
  const used = charactersOf(svg);
  const rules = (["normal", "italic"] as const).flatMap((style) => {
    const characters = used[style];
    if (characters.size === 0) return [];
    const font = subsetFont(faceOf(style).font, characters);
    const source = `url(data:font/woff;base64,${Buffer.from(woffOf(font)).toString("base64")}) format("woff")`;
    return [`@font-face{font-family:"Source Sans 3";font-style:${style};src:${source}}`];
  });
  return rules.length === 0 ? svg : svg.replace(/<svg [^>]*>/, (root) => `${root}<style>${rules.join("")}</style>`);
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };

/** The characters that an SVG made by svg.ts uses upright and in italics. */
function charactersOf(svg: string): Record<"normal" | "italic", Set<string>> {
  const used = { normal: new Set<string>(), italic: new Set<string>() };
  for (const [, content] of svg.matchAll(/<text[^>]*>(.*?)<\/text>/gs)) {
    let style: "normal" | "italic" = "normal";
    for (const [part] of content.matchAll(/<[^>]*>|[^<]+/g)) {
      if (part.startsWith("<")) style = part.includes('font-style="italic"') ? "italic" : "normal";
      else for (const c of part.replace(/&([^;]+);/g, (whole, name) => ENTITIES[name] ?? whole)) used[style].add(c);
    }
  }
  return used;
}

/** The font as a WOFF 1.0 file: the same tables, each compressed. Source: W3C, WOFF File Format 1.0. */
export function woffOf(font: Buffer): Buffer {
  const tables = readTables(font);
  const header = Buffer.alloc(44 + 20 * tables.size);
  let offset = header.length;
  const packed = [...tables].map(([tag, bytes], k) => {
    const deflated = deflateSync(bytes, { level: 9 });
    const stored = deflated.length < bytes.length ? deflated : bytes;
    const at = 44 + 20 * k;
    header.write(tag, at, "latin1");
    [offset, stored.length, bytes.length, checksum(bytes)].forEach((value, field) => {
      header.writeUInt32BE(value, at + 4 + 4 * field);
    });
    offset += padded4(stored).length;
    return padded4(stored);
  });
  header.write("wOFF", 0, "latin1");
  header.writeUInt32BE(0x00010000, 4);
  header.writeUInt32BE(offset, 8);
  header.writeUInt16BE(tables.size, 12);
  header.writeUInt32BE(font.length, 16);
  header.writeUInt16BE(1, 20);
  return Buffer.concat([header, ...packed]);
}
