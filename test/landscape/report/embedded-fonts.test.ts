// Fonts embedded in SVG: the glyphs that are used look as in the whole font, and are all that is there.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import { Resvg } from "@resvg/resvg-js";
import * as assert from "uvu/assert";
import { embedFonts, woffOf } from "../../../landscape/report/figures/embedded-fonts.ts";
import { trainingFigure } from "../../../landscape/report/figures/training.ts";
import { subsetFont } from "../../../landscape/report/figures/true-type.ts";
import { describe } from "../../support.ts";
import { syntheticStudy } from "../synthetic-study.ts";

const file = (name: string) => new URL(`../../../landscape/report/figures/fonts/${name}`, import.meta.url);

/** The pixels of a text set in one font file. */
function pixels(font: Uint8Array, text: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "foothold-font-"));
  try {
    const path = join(folder, "font.ttf");
    writeFileSync(path, font);
    const options = { loadSystemFonts: false, fontFiles: [path], defaultFontFamily: "Source Sans 3" };
    // One letter to an element: kerning is not part of a subset.
    const letters = [...text].map((letter, k) => `<text x="${10 + 30 * k}" y="40">${letter}</text>`).join("");
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="600" height="60" font-size="30" font-family="Source Sans 3">${letters}</svg>`;
    return new Resvg(svg, { font: options }).render().pixels;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("landscape/report/figures/embedded-fonts", (test) => {
  for (const name of ["SourceSans3-Regular.ttf", "SourceSans3-It.ttf"])
    test(`${name}: the glyphs that are used are drawn as the whole font draws them`, () => {
      const whole = readFileSync(file(name));
      // Ä and ∞, α, − lie in other parts of the font; Ä is made of two glyphs.
      const text = "Rewad 0.5−∞αÄ";
      const part = subsetFont(whole, new Set(text));
      assert.ok(part.length < whole.length / 5, `${part.length} of ${whole.length} bytes`);
      assert.ok(pixels(part, text).equals(pixels(whole, text)));
      assert.ok(
        pixels(part, text).some((value) => value !== 0),
        "something is drawn",
      );
      assert.not.ok(pixels(part, "XYZ").equals(pixels(whole, "XYZ")), "other glyphs are empty");
    });

  test("a character that the font lacks is passed over", () => {
    const whole = readFileSync(file("SourceSans3-Regular.ttf"));
    assert.ok(subsetFont(whole, new Set("a\u{1f600}")).equals(subsetFont(whole, new Set("a"))));
  });

  test("a WOFF holds the same tables, compressed", () => {
    const font = subsetFont(readFileSync(file("SourceSans3-Regular.ttf")), new Set("abc"));
    const woff = woffOf(font);
    assert.is(woff.toString("latin1", 0, 4), "wOFF");
    assert.is(woff.readUInt32BE(8), woff.length);
    assert.is(woff.readUInt32BE(16), font.length);
    for (let k = 0; k < woff.readUInt16BE(12); k++) {
      const [offset, stored, length] = [4, 8, 12].map((at) => woff.readUInt32BE(44 + 20 * k + at));
      const bytes = woff.subarray(offset, offset + stored);
      const start = font.readUInt32BE(12 + 16 * k + 8);
      assert.ok((stored < length ? inflateSync(bytes) : bytes).equals(font.subarray(start, start + length)));
    }
  });

  test("a figure carries its faces, the same bytes twice, and draws alike", () => {
    const { svg } = trainingFigure(syntheticStudy([0, 5], [0]));
    const embedded = embedFonts(svg);
    assert.is(embedded, embedFonts(svg));
    assert.match(
      embedded,
      /^<svg [^>]*><style>@font-face\{font-family:"Source Sans 3";font-style:normal;src:url\(data:font\/woff;base64,/,
    );
    assert.match(embedded, "font-style:italic");
    assert.ok(embedded.length < svg.length + 60_000, `${embedded.length - svg.length} characters of fonts`);
    assert.is(embedded.replace(/<style>.*<\/style>/, ""), svg);
    assert.is(embedFonts('<svg xmlns="http://www.w3.org/2000/svg"/>'), '<svg xmlns="http://www.w3.org/2000/svg"/>');
    new Resvg(embedded); // well-formed
  });
});
