// The fonts of a PDF page: which glyphs it uses, and the font objects with those glyphs only.
import { createHash } from "node:crypto";
import { type Face, FOR_PDF, faceOf, subsetFont } from "./true-type.ts";

type Style = Face["style"];

/** Resource names of the two faces. */
const RESOURCES: Readonly<Record<Style, string>> = { normal: "N", italic: "I" };

/** The glyphs that a page uses, and the character that each stands for. */
export class PageFonts {
  readonly used: Readonly<Record<Style, Map<number, string>>> = { normal: new Map(), italic: new Map() };

  /**
   * @returns glyph numbers in hexadecimal, and whether they alone say the text: not if the font lacks a character, or
   *          has the same glyph for another one
   */
  use(text: string, style: Style): { glyphs: string; isReadable: boolean } {
    const face = faceOf(style);
    let isReadable = true;
    let glyphs = "";
    for (const character of text) {
      const glyph = face.glyphOf(character.codePointAt(0) ?? 0);
      const stands = this.used[style].get(glyph) ?? character;
      if (glyph === 0 || stands !== character) isReadable = false;
      if (glyph !== 0) this.used[style].set(glyph, stands);
      glyphs += glyph.toString(16).toUpperCase().padStart(4, "0");
    }
    return { glyphs, isReadable };
  }
}

/**
 * The font objects of the faces that are used. Glyphs are addressed by their numbers in the font (Identity-H), and a
 * character map leads back to the text. Source: ISO 32000-1, 9.7 and 9.10.3.
 * @returns entries of the page's font resources
 */
export function embeddedFaces(
  fonts: PageFonts,
  add: (object: string | Buffer) => string,
  stream: (bytes: Uint8Array, entries?: string) => Buffer,
): string[] {
  return (["normal", "italic"] as const).flatMap((style) => {
    const used = fonts.used[style];
    if (used.size === 0) return [];
    const face = faceOf(style);
    const glyphs = [...used].sort(([a], [b]) => a - b);
    const font = subsetFont(face.font, new Set(used.values()), FOR_PDF);
    const name = `${tagOf([...used.values()].sort().join(""))}+${face.name}`;
    const file = add(stream(font, `/Length1 ${font.length} `));
    const descriptor = add(descriptorOf(face, name, file));
    const widths = glyphs.map(([glyph]) => `${glyph} [${Math.round(face.advance(glyph))}]`).join(" ");
    const descendant = add(
      `<< /Type /Font /Subtype /CIDFontType2 /BaseFont /${name} /FontDescriptor ${descriptor} ` +
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> " +
        `/CIDToGIDMap /Identity /W [${widths}] >>`,
    );
    const map = add(stream(Buffer.from(characterMapOf(glyphs))));
    const whole = add(
      `<< /Type /Font /Subtype /Type0 /BaseFont /${name} /Encoding /Identity-H ` +
        `/DescendantFonts [${descendant}] /ToUnicode ${map} >>`,
    );
    return [`/${RESOURCES[style]} ${whole}`];
  });
}

/** Six capitals that name a part of a font. */
function tagOf(text: string): string {
  const digest = createHash("sha256").update(text).digest();
  return String.fromCharCode(...[...digest.subarray(0, 6)].map((byte) => 65 + (byte % 26)));
}

function descriptorOf({ tables, scale, style }: Face, name: string, file: string): string {
  const read = (tag: string, at: number): number => Math.round(scale * (tables.get(tag)?.readInt16BE(at) ?? 0));
  const box = [36, 38, 40, 42].map((at) => read("head", at)).join(" ");
  const slant = (tables.get("post")?.readInt32BE(4) ?? 0) / 65536;
  const flags = 32 + (style === "italic" ? 64 : 0);
  return (
    `<< /Type /FontDescriptor /FontName /${name} /Flags ${flags} /FontBBox [${box}] /ItalicAngle ${slant} ` +
    `/Ascent ${read("hhea", 4)} /Descent ${read("hhea", 6)} /CapHeight ${read("OS/2", 88)} /StemV 80 /FontFile2 ${file} >>`
  );
}

/** The ToUnicode character map: glyph number to UTF-16. At most 100 entries to a block. */
function characterMapOf(glyphs: readonly (readonly [number, string])[]): string {
  const rows = glyphs.map(([glyph, character]) => {
    const code = Buffer.from(character, "utf16le").swap16().toString("hex").toUpperCase();
    return `<${glyph.toString(16).toUpperCase().padStart(4, "0")}> <${code}>`;
  });
  const blocks = Array.from({ length: Math.ceil(rows.length / 100) }, (_, k) => rows.slice(100 * k, 100 * (k + 1)));
  return [
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
    "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
    "1 begincodespacerange <0000> <FFFF> endcodespacerange",
    ...blocks.map((block) => `${block.length} beginbfchar\n${block.join("\n")}\nendbfchar`),
    "endcmap CMapName currentdict /CMap defineresource pop end end",
  ].join("\n");
}
