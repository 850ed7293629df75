// TrueType fonts: their tables, the widths of their characters, and parts of a font with the glyphs of a text only.
// Kerning is left out. Source: OpenType specification 1.9.
import { readFileSync } from "node:fs";

/** A face of the figures' font, read once. Lengths are in thousandths of an em. */
export interface Face {
  readonly name: string;
  readonly style: "normal" | "italic";
  readonly font: Buffer;
  readonly tables: Tables;
  /** Glyph of a code point, 0 if the font has none. */
  glyphOf(code: number): number;
  /** Advance width of a glyph. */
  advance(glyph: number): number;
  /** Thousandths of an em per font unit. */
  readonly scale: number;
}

/** Tables of a font by their tag. */
export type Tables = ReadonlyMap<string, Buffer>;

/** Tables that a browser needs. Left out: kerning, substitution, hinting, and tables that only editors use. */
const FOR_BROWSERS = ["OS/2", "cmap", "glyf", "head", "hhea", "hmtx", "loca", "maxp", "name", "post"] as const;

/** Tables that a font inside a PDF needs: it is addressed by glyph numbers. Source: ISO 32000-1, 9.9. */
export const FOR_PDF = ["glyf", "head", "hhea", "hmtx", "loca", "maxp"] as const;

/**
 * A TrueType font with the glyphs of these characters only; characters that the font lacks are ignored. Glyphs keep
 * their numbers: all other glyphs are empty, which compresses to almost nothing. Source: OpenType specification 1.9,
 * chapters cmap, glyf, loca, hmtx.
 * @param keptTables  the tables of the result
 */
export function subsetFont(
  font: Uint8Array,
  characters: ReadonlySet<string>,
  keptTables: readonly string[] = FOR_BROWSERS,
): Buffer {
  const tables = readTables(Buffer.from(font));
  const table = tableOf(tables);
  const map = characterMap(table("cmap"));
  const codes = [...characters].flatMap((character) => {
    const code = character.codePointAt(0) ?? 0;
    const glyph = map(code);
    return glyph === 0 ? [] : [{ code, glyph }];
  });
  const isLong = table("head").readInt16BE(50) === 1;
  const count = table("maxp").readUInt16BE(4);
  const start = (glyph: number): number =>
    isLong ? table("loca").readUInt32BE(4 * glyph) : 2 * table("loca").readUInt16BE(2 * glyph);
  const outline = (glyph: number): Buffer => table("glyf").subarray(start(glyph), start(glyph + 1));

  const kept = new Set([0, ...codes.map(({ glyph }) => glyph)]);
  for (const glyph of kept) for (const part of partsOf(outline(glyph))) kept.add(part);
  const loca = Buffer.alloc(4 * (count + 1));
  const outlines: Buffer[] = [];
  let length = 0;
  for (let glyph = 0; glyph < count; glyph++) {
    loca.writeUInt32BE(length, 4 * glyph);
    if (!kept.has(glyph)) continue;
    const padded = padded4(outline(glyph));
    outlines.push(padded);
    length += padded.length;
  }
  loca.writeUInt32BE(length, 4 * count);
  const head = Buffer.from(table("head"));
  head.writeInt16BE(1, 50); // long offsets in loca
  const post = Buffer.from(table("post").subarray(0, 32));
  post.writeUInt32BE(0x00030000, 0); // no glyph names
  const widths = Buffer.from(table("hmtx"));
  const measured = table("hhea").readUInt16BE(34);
  for (let glyph = 0; glyph < measured; glyph++) if (!kept.has(glyph)) widths.fill(0, 4 * glyph, 4 * glyph + 4);
  const changed: Tables = new Map([
    ["cmap", writeCharacterMap(codes)],
    ["glyf", Buffer.concat(outlines)],
    ["head", head],
    ["hmtx", widths],
    ["loca", loca],
    ["post", post],
  ]);
  return writeFont(new Map(keptTables.map((tag) => [tag, changed.get(tag) ?? table(tag)])));
}

const tableOf =
  (tables: Tables) =>
  (tag: string): Buffer => {
    const found = tables.get(tag);
    if (found === undefined) throw new Error(`font: expected a TrueType font with a table ${tag}`);
    return found;
  };

export function readTables(font: Buffer): Tables {
  return new Map(
    Array.from({ length: font.readUInt16BE(4) }, (_, k) => {
      const at = 12 + 16 * k;
      const offset = font.readUInt32BE(at + 8);
      return [font.toString("latin1", at, at + 4), font.subarray(offset, offset + font.readUInt32BE(at + 12))];
    }),
  );
}

/** Glyphs that a composite glyph is made of. */
function partsOf(outline: Buffer): number[] {
  if (outline.length === 0 || outline.readInt16BE(0) >= 0) return [];
  const parts: number[] = [];
  for (let at = 10, flags = 0x20; (flags & 0x20) !== 0; ) {
    flags = outline.readUInt16BE(at);
    parts.push(outline.readUInt16BE(at + 2));
    const scale = (flags & 0x08) !== 0 ? 2 : (flags & 0x40) !== 0 ? 4 : (flags & 0x80) !== 0 ? 8 : 0;
    at += 4 + ((flags & 0x01) !== 0 ? 4 : 2) + scale;
  }
  return parts;
}

/** Glyph of a code point, 0 if there is none: from subtable format 12, else 4. */
function characterMap(cmap: Buffer): (code: number) => number {
  const subtables = Array.from({ length: cmap.readUInt16BE(2) }, (_, k) => cmap.subarray(cmap.readUInt32BE(8 + 8 * k)));
  const wide = subtables.find((subtable) => subtable.readUInt16BE(0) === 12);
  if (wide !== undefined)
    return (code) => {
      for (let k = 0; k < wide.readUInt32BE(12); k++) {
        const [first, last, glyph] = [0, 4, 8].map((offset) => wide.readUInt32BE(16 + 12 * k + offset));
        if (code >= first && code <= last) return glyph + code - first;
      }
      return 0;
    };
  const narrow = subtables.find((subtable) => subtable.readUInt16BE(0) === 4);
  if (narrow === undefined) throw new Error("font: expected a character map of format 4 or 12");
  const doubled = narrow.readUInt16BE(6);
  return (code) => {
    for (let k = 0; k < doubled; k += 2) {
      const [last, first] = [narrow.readUInt16BE(14 + k), narrow.readUInt16BE(16 + doubled + k)];
      if (code < first || code > last) continue;
      const delta = narrow.readUInt16BE(16 + 2 * doubled + k);
      const place = 16 + 3 * doubled + k;
      const range = narrow.readUInt16BE(place);
      const glyph = range === 0 ? code : narrow.readUInt16BE(place + range + 2 * (code - first));
      return glyph === 0 ? 0 : (glyph + delta) & 0xffff;
    }
    return 0;
  };
}

/** A character map of one subtable, format 12, with one group per character. */
function writeCharacterMap(codes: readonly { code: number; glyph: number }[]): Buffer {
  const ordered = [...codes].sort((a, b) => a.code - b.code);
  const cmap = Buffer.alloc(12 + 16 + 12 * ordered.length);
  cmap.writeUInt16BE(1, 2);
  cmap.writeUInt16BE(3, 4); // Windows, full Unicode
  cmap.writeUInt16BE(10, 6);
  cmap.writeUInt32BE(12, 8);
  cmap.writeUInt16BE(12, 12);
  cmap.writeUInt32BE(cmap.length - 12, 16);
  cmap.writeUInt32BE(ordered.length, 24);
  ordered.forEach(({ code, glyph }, k) => {
    [code, code, glyph].forEach((value, at) => {
      cmap.writeUInt32BE(value, 28 + 12 * k + 4 * at);
    });
  });
  return cmap;
}

export const padded4 = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

export function checksum(bytes: Buffer): number {
  let sum = 0;
  const words = padded4(bytes);
  for (let at = 0; at < words.length; at += 4) sum = (sum + words.readUInt32BE(at)) >>> 0;
  return sum;
}

function writeFont(tables: Tables): Buffer {
  const count = tables.size;
  const largest = 2 ** Math.floor(Math.log2(count));
  const header = Buffer.alloc(12 + 16 * count);
  header.writeUInt32BE(0x00010000, 0);
  [count, 16 * largest, Math.log2(largest), 16 * (count - largest)].forEach((value, k) => {
    header.writeUInt16BE(value, 4 + 2 * k);
  });
  let offset = header.length;
  [...tables].forEach(([tag, bytes], k) => {
    const at = 12 + 16 * k;
    header.write(tag, at, "latin1");
    [checksum(bytes), offset, bytes.length].forEach((value, field) => {
      header.writeUInt32BE(value, at + 4 + 4 * field);
    });
    offset += padded4(bytes).length;
  });
  return Buffer.concat([header, ...[...tables.values()].map(padded4)]);
}

function readFace(style: Face["style"]): Face {
  const name = NAMES[style];
  const font = readFileSync(new URL(`./fonts/${name}.ttf`, import.meta.url));
  const tables = readTables(font);
  const table = tableOf(tables);
  const [head, hhea, hmtx] = ["head", "hhea", "hmtx"].map(table);
  const map = characterMap(table("cmap"));
  const known = new Map<number, number>();
  const scale = 1000 / head.readUInt16BE(18);
  // Glyphs after the last measured one have its width.
  const last = hhea.readUInt16BE(34) - 1;
  return {
    ...{ name, style, font, tables, scale },
    glyphOf(code) {
      const glyph = known.get(code) ?? map(code);
      known.set(code, glyph);
      return glyph;
    },
    advance: (glyph) => scale * hmtx.readUInt16BE(4 * Math.min(glyph, last)),
  };
}

const NAMES = { normal: "SourceSans3-Regular", italic: "SourceSans3-It" } as const;
const read = new Map<Face["style"], Face>();

/** A face of the figures: Source Sans 3, upright or italic (fonts/LICENSE.md). */
export function faceOf(style: Face["style"]): Face {
  const face = read.get(style) ?? readFace(style);
  read.set(style, face);
  return face;
}

/** Width of a text set in one face at 1 pt, without kerning. */
export function advanceOf(text: string, style: Face["style"] = "normal"): number {
  const face = faceOf(style);
  let width = 0;
  for (const character of text) width += face.advance(face.glyphOf(character.codePointAt(0) ?? 0));
  return width / 1000;
}
