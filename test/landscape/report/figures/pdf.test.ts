// PDF of figures, read by its structure: objects at their places, embedded fonts, and the text that can be selected.
import { inflateSync } from "node:zlib";
import * as assert from "uvu/assert";
import { renderPdf } from "../../../../landscape/report/figures/pdf.ts";
import { studyFigures } from "../../../../landscape/report/figures/study-figures.ts";
import { placedTexts } from "../../../../landscape/report/figures/svg-tree.ts";
import { readTables } from "../../../../landscape/report/figures/true-type.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { syntheticStudy } from "../../synthetic-study.ts";

interface PdfObject {
  readonly dictionary: string;
  readonly stream: Buffer | null;
}

/** The objects of a file, found by its cross-reference table. */
function objectsOf(file: Uint8Array): Map<number, PdfObject> {
  const pdf = Buffer.from(file);
  const text = pdf.toString("latin1");
  assert.match(text, /^%PDF-1\.7\n/);
  const start = Number(text.match(/startxref\n(\d+)\n%%EOF\n$/)?.[1]);
  const table = text.slice(start).match(/^xref\n0 (\d+)\n((?:\d{10} \d{5} [fn] \n)+)trailer\n/);
  assert.ok(table, "a table at startxref");
  const [, size, rows] = table;
  const places = rows
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((row) => Number(row.slice(0, 10)));
  assert.is(places.length + 1, Number(size));
  return new Map(
    places.map((at, k) => {
      const head = `${k + 1} 0 obj\n`;
      assert.is(text.slice(at, at + head.length), head);
      const content = text.slice(at + head.length, text.indexOf("\nendobj", at));
      const length = Number(content.match(/^<< \/Length (\d+)/)?.[1]);
      const from = at + head.length + content.indexOf("stream\n") + "stream\n".length;
      const packed = Number.isNaN(length) ? null : pdf.subarray(from, from + length);
      if (packed !== null) assert.is(text.slice(from + length, from + length + 10), "\nendstream");
      return [k + 1, { dictionary: content.split("\nstream\n")[0], stream: packed && inflateSync(packed) }];
    }),
  );
}

const fromUtf16 = (hex: string) => Buffer.from(hex, "hex").swap16().toString("utf16le");

/** Resource name of each font, and what its glyphs stand for. */
function fontsOf(objects: Map<number, PdfObject>) {
  const page = [...objects.values()].find(({ dictionary }) => dictionary.includes("/Type /Page "))?.dictionary ?? "";
  const follow = (dictionary: string, key: string) => {
    const number = Number(dictionary.match(new RegExp(`/${key} \\[?(\\d+) 0 R`))?.[1]);
    const found = objects.get(number);
    assert.ok(found, `${key} leads to an object`);
    return found;
  };
  return [...(page.match(/\/Font << (.*?) >>/)?.[1] ?? "").matchAll(/\/(\w) (\d+) 0 R/g)].map(([, name, number]) => {
    const font = objects.get(Number(number))?.dictionary ?? "";
    const descendant = follow(font, "DescendantFonts").dictionary;
    const file = follow(follow(descendant, "FontDescriptor").dictionary, "FontFile2").stream ?? Buffer.alloc(0);
    const map = follow(font, "ToUnicode").stream?.toString("latin1") ?? "";
    const rows = [...map.matchAll(/beginbfchar\n(.*?)\nendbfchar/gs)].map(([, block]) => block).join("\n");
    const characters = new Map(
      [...rows.matchAll(/<(\w{4})> <(\w+)>/g)].map(([, glyph, code]) => [glyph, fromUtf16(code)]),
    );
    return { name, font, descendant, file, characters };
  });
}

/** What a reader selects: every run of the content, through ToUnicode or its ActualText; halos say nothing. */
function textOf(file: Uint8Array): string[] {
  const objects = objectsOf(file);
  const fonts = new Map(fontsOf(objects).map(({ name, characters }) => [name, characters]));
  const content = [...objects.values()].find(({ stream }) => stream?.toString("latin1").startsWith("1 0 0 -1"))?.stream;
  const texts: string[] = [];
  let font: Map<string, string> | undefined;
  let actual: string | null = null;
  for (const [whole, name, glyphs, given] of (content?.toString("latin1") ?? "").matchAll(
    /\/(\w) [\d.]+ Tf|<(\w*)> Tj|\/ActualText (\(\)|<\w+>) >> BDC|EMC/g,
  )) {
    if (name !== undefined) font = fonts.get(name);
    else if (given !== undefined) {
      actual = given === "()" ? "" : fromUtf16(given.slice(5, -1));
      if (actual !== "") texts.push(actual);
    } else if (whole === "EMC") actual = null;
    else if (actual === null)
      texts.push((glyphs.match(/.{4}/g) ?? []).map((glyph) => font?.get(glyph) ?? "?").join(""));
  }
  return texts;
}

const svgText = (svg: string) =>
  placedTexts(svg).flatMap(({ runs }) => runs.map(({ text }) => text).filter((text) => text !== ""));

const drawing = (content: string) =>
  `<svg xmlns="x" viewBox="0 0 200 100" font-size="10" fill="#102030">${content}</svg>`;

describe("landscape/report/figures/pdf", (test) => {
  const study = syntheticStudy([0, 5, 10], [0]);

  for (const [name, draw] of studyFigures(study))
    test(`${name}: its text is the SVG's, in embedded fonts, without pixels, the same bytes twice`, () => {
      const { svg, title } = draw({ widthMm: 84, fontPt: 8 });
      const pdf = renderPdf(svg, title);
      assert.ok(Buffer.from(renderPdf(svg, title)).equals(Buffer.from(pdf)));
      assert.ok(svgText(svg).length > 5);
      assert.equal(textOf(pdf), svgText(svg));
      const objects = objectsOf(pdf);
      const all = [...objects.values()].map(({ dictionary }) => dictionary).join("\n");
      assert.not.match(all, /\/Image/);
      const [width, height] = svg.match(/viewBox="0 0 ([\d.]+ [\d.]+)"/)?.[1].split(" ") ?? [];
      assert.match(all, `/MediaBox [0 0 ${width} ${height}]`);
      assert.match(all, `/Title <FEFF${Buffer.from(title, "utf16le").swap16().toString("hex").toUpperCase()}>`);
      const fonts = fontsOf(objects);
      assert.ok(fonts.length >= 1);
      for (const { font, descendant, file, characters } of fonts) {
        assert.match(font, /\/BaseFont \/[A-Z]{6}\+SourceSans3-(Regular|It) /);
        assert.match(font, "/Encoding /Identity-H");
        // Every glyph that is shown has its width, and an outline unless it is a space.
        const tables = readTables(file);
        const [loca, hmtx] = [tables.get("loca"), tables.get("hmtx")];
        for (const [glyph, character] of characters) {
          const number = Number.parseInt(glyph, 16);
          assert.match(descendant, ` ${number} [${hmtx?.readUInt16BE(4 * number)}]`.replace(" ", ""));
          const bytes = (loca?.readUInt32BE(4 * number + 4) ?? 0) - (loca?.readUInt32BE(4 * number) ?? 0);
          assert.is(bytes > 0, character !== " ", `outline of "${character}"`);
        }
        assert.ok(file.length < 40_000, `${file.length} bytes of font, before compression`);
      }
      assert.ok(pdf.length < 30_000, `${pdf.length} bytes`);
    });

  test("sixteen maps of 21 × 21 points stay small", () => {
    const large = syntheticStudy(
      Array.from({ length: 16 }, (_, k) => 10 * k),
      [0],
      21,
    );
    const figure = studyFigures(large).get("reward-map")?.();
    const pdf = renderPdf(figure?.svg ?? "", "");
    assert.ok(pdf.length < 120_000, `${pdf.length} bytes`);
    const dots = renderPdf(studyFigures(large).get("reward-kl")?.().svg ?? "", "");
    assert.ok(dots.length < 150_000, `${dots.length} bytes for ${16 * 441} dots`);
  });

  test("shapes, colours and turned text become these operators", () => {
    const svg = drawing(
      '<rect x="1" y="2" width="3" height="4"/>' +
        '<g stroke="#ff0000" fill="none"><path d="M1 2L3 4L5 6Z" stroke-dasharray="2 1" stroke-opacity="0.5"/></g>' +
        '<circle cx="50" cy="50" r="10" fill="#ffffff" stroke="#000000" stroke-width="2"/>' +
        '<rect width="9" height="9" fill="transparent"/>' +
        '<text x="20" y="30" transform="rotate(-90 20 30)" text-anchor="end">I</text>',
    );
    const objects = objectsOf(renderPdf(svg, "t"));
    const content = [...objects.values()].find(({ stream }) => stream !== null)?.stream?.toString("latin1") ?? "";
    const lines = content.split("\n");
    assert.equal(lines.slice(0, 5), ["1 0 0 -1 0 100 cm", "0.063 0.125 0.188 rg", "/G0 gs", "1 2 3 4 re", "f"]);
    for (const line of [
      "1 0 0 RG",
      "[2 1] 0 d",
      "1 2 m 3 4 l 5 6 l h",
      "S",
      "/G1 gs",
      "2 w",
      "q 1 0 0 1 50 50 cm /C0 Do Q",
    ])
      assert.ok(lines.includes(line), line);
    // The circle begins and ends at its right, and passes through its four extremes.
    const form = [...objects.values()].find(({ dictionary }) => dictionary.includes("/Subtype /Form"));
    assert.match(form?.dictionary ?? "", "/BBox [-12 -12 12 12]");
    const shape = form?.stream?.toString("latin1") ?? "";
    assert.match(shape, /^10 0 m .* 0 10 c .* -10 0 c .* 0 -10 c .* 10 0 c h B$/);
    assert.is(lines.filter((line) => / re$/.test(line)).length, 1, "nothing is drawn for transparent");
    // "I" is 0.263 em wide: its end is at the point, and it runs upwards, so it begins below.
    const [a, b, c, d, x, y] = (lines.find((line) => line.includes(" Tm")) ?? "")
      .split("Tf ")[1]
      .split(" ")
      .map(Number);
    assert.equal(
      [a + 0, b, c, d + 0].map(Math.round),
      [0, -1, -1, 0].map((value) => value + 0),
    );
    assert.ok(Math.abs(x - 20) < 1e-3 && y > 32 && y < 33.5, `${x} ${y}`);
    assert.match([...objects.values()].map(({ dictionary }) => dictionary).join(), "/G1 << /ca 1 /CA 0.5 >>");
  });

  test("a character that the font lacks, or whose glyph another one has, can still be selected", () => {
    // Δ (Greek) and ∆ (increment) have one glyph in many fonts; 漢 and 😀 have none here.
    const svg = drawing('<text x="5" y="20">Δ∆ a漢😀 &lt;&amp;&gt;</text><text x="5" y="40">µμ</text>');
    assert.equal(textOf(renderPdf(svg, "漢")).join("|"), "Δ∆ a漢😀 <&>|µμ");
  });

  test("what it does not know is refused, so that nothing is lost", async () => {
    for (const [content, ...parts] of [
      ["<image/>", "<image>"],
      ['<path d="M1 2C1 2 3 4 5 6"/>', "M, L and Z"],
      ['<rect x="1" y="2" width="3" height="4" fill="red"/>', "#rrggbb", "red"],
      ['<text x="1" y="2" transform="scale(2)">x</text>', "rotate", "scale(2)"],
      ['<text x="1" y="2" stroke="#000000">x</text>', "paint-order"],
      ["<rect", "cannot be read"],
    ])
      await throwsMessage(() => renderPdf(drawing(content), ""), ...parts);
  });
});
