// No text of a figure leaves the page or overlaps another, at the sizes of papers.
import * as assert from "uvu/assert";
import { sizeProblem } from "../../../../landscape/report/figures/axes.ts";
import { studyFigures } from "../../../../landscape/report/figures/study-figures.ts";
import { textElement, textWidth } from "../../../../landscape/report/figures/svg.ts";
import { advanceOf } from "../../../../landscape/report/figures/true-type.ts";
import { assertClose, describe } from "../../../support.ts";
import { syntheticStudy } from "../../synthetic-study.ts";
import { overlap, textBoxes, textFaults } from "./text-boxes.ts";

const page = (...texts: readonly { markup: string }[]) =>
  `<svg viewBox="0 0 100 50" font-size="10">${texts.map(({ markup }) => markup).join("")}</svg>`;

describe("landscape/report/figures/axes", (test) => {
  test("text that leaves the page or overlaps is found, upright and turned", () => {
    assert.equal(textFaults(page(textElement("abc", 5, 20), textElement("abc", 40, 20))), []);
    assert.equal(textFaults(page(textElement("abc", 90, 20))), ['"abc" leaves the page']);
    assert.equal(textFaults(page(textElement("abc", 5, 20), textElement("xyz", 12, 23))), ['"abc" and "xyz" overlap']);
    const turned = textElement("abcdef", 30, 25, { transform: "rotate(-90 30 25)", "text-anchor": "middle" });
    assert.equal(textFaults(page(turned, textElement("x", 10, 25))), []);
    assert.equal(textFaults(page(turned, textElement("x", 24, 25))), ['"abcdef" and "x" overlap']);
    // A square turned by 45° beside another: their bounding boxes overlap, they do not.
    const square = [
      [0, 0],
      [10, 0],
      [10, 10],
      [0, 10],
    ] as const;
    const diamond = [
      [10, 16],
      [16, 10],
      [22, 16],
      [16, 22],
    ] as const;
    assert.ok(
      overlap(square, diamond) < 0 &&
        overlap(square, [
          [5, 5],
          [15, 5],
          [15, 15],
          [5, 15],
        ]) === 5,
    );
  });

  test("widths are the font's own", () => {
    // hmtx of Source Sans 3: digits 497 of 1000 units, "R" of the italic 549.
    assertClose("digits", [advanceOf("0123456789")], [4.97], { absolute: 1e-9 });
    assert.is(textWidth(["r", { sub: "∞" }], 10), 10 * advanceOf("r") + 7.2 * advanceOf("∞"));
    assert.is(textWidth([{ italic: "R" }], 10), 10 * advanceOf("R", "italic"));
    const [box] = textBoxes(page(textElement("0123", 50, 20, { "text-anchor": "end" })));
    assertClose("ends", [box.corners[0][0], box.corners[1][0]], [50 - 19.88, 50], { absolute: 1e-9 });
  });

  for (const [what, study] of Object.entries({
    "one checkpoint": syntheticStudy([0], [0]),
    "three checkpoints": syntheticStudy([0, 5, 10], [0], 11),
    "sixteen checkpoints": syntheticStudy(
      Array.from({ length: 16 }, (_, k) => 10 * k),
      [0],
    ),
    "two slices": syntheticStudy([0, 5], [0, 1]),
  }))
    test(`nothing overlaps or is clipped: ${what}`, () => {
      for (const [widthMm, fontPt] of [
        [84, 8],
        [84, 6],
        [63, 8],
        [174, 9],
      ]) {
        assert.is(sizeProblem(widthMm, fontPt), null);
        for (const [name, draw] of studyFigures(study))
          assert.equal(textFaults(draw({ widthMm, fontPt }).svg), [], `${name} at ${widthMm} mm, ${fontPt} pt`);
      }
      for (const [name, draw] of studyFigures(study)) assert.equal(textFaults(draw().svg), [], `${name} by default`);
    });

  test("the least width is the least that passes", () => {
    assert.is(sizeProblem(63, 8), null);
    assert.match(sizeProblem(62, 8) ?? "", "at least 63 mm at 8 pt, got 62 mm");
    assert.match(sizeProblem(1001, 8) ?? "", "at most 1000 mm");
    assert.match(sizeProblem(84, 2.9) ?? "", "at least 3 pt");
    assert.match(sizeProblem(Number.NaN, 8) ?? "", "at most 1000 mm");
  });
});
