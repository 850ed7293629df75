// The colours of figures in grey print and to colour-blind readers, simulated.
import * as assert from "uvu/assert";
import { curveStyles, DIVERGING, luminance, PRINT, SEQUENTIAL } from "../../../../landscape/report/figures/colour.ts";
import { assertClose, describe } from "../../../support.ts";

type Triple = readonly [number, number, number];

/**
 * Complete colour blindness of each kind, on linear RGB. Source: Machado, Oliveira & Fernandes 2009, A Physiologically-based
 * Model for Simulation of Color Vision Deficiency, table 1, severity 1.0.
 */
const VISIONS: Readonly<Record<string, readonly [Triple, Triple, Triple]>> = {
  usual: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
  grey: [
    [0.2126, 0.7152, 0.0722],
    [0.2126, 0.7152, 0.0722],
    [0.2126, 0.7152, 0.0722],
  ],
};

function linear(hex: string): Triple {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return [r, g, b];
}

/** CIE L*a*b* (D65) of a colour as a vision sees it. */
function lab(hex: string, vision: readonly [Triple, Triple, Triple]): Triple {
  const seen = vision.map((row) => row.reduce((sum, weight, k) => sum + weight * linear(hex)[k], 0));
  const [r, g, b] = seen.map((channel) => Math.min(1, Math.max(0, channel)));
  const f = (t: number) => (t > (6 / 29) ** 3 ? Math.cbrt(t) : t / (3 * (6 / 29) ** 2) + 4 / 29);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const difference = (a: Triple, b: Triple) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
const contrast = (a: number, b: number) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

describe("landscape/report/figures/colour", (test) => {
  test("the simulation: white stays white, red and green of one lightness meet for a deuteranope", () => {
    for (const vision of Object.values(VISIONS))
      assertClose("white", [...lab("#ffffff", vision)], [100, 0, 0], { absolute: 0.1 });
    const [red, green] = ["#c86432", "#8c8a28"];
    assert.ok(difference(lab(red, VISIONS.usual), lab(green, VISIONS.usual)) > 30);
    assert.ok(difference(lab(red, VISIONS.deuteranopia), lab(green, VISIONS.deuteranopia)) < 20);
    assertClose("luminance", [luminance("#ffffff"), luminance("#808080")], [1, 0.2159], { absolute: 1e-4 });
  });

  for (const [name, vision] of Object.entries(VISIONS)) {
    test(`${name}: the scale of maps grows lighter throughout, from dark to light`, () => {
      const lightness = SEQUENTIAL.map((hex) => lab(hex, vision)[0]);
      // Rounding to whole channels can cost a fifth of a unit of L*.
      for (let k = 1; k < lightness.length; k++) assert.ok(lightness[k] > lightness[k - 1] - 0.25, `entry ${k}`);
      // Every sixteenth of the scale is told from the next.
      for (let k = 16; k < lightness.length; k += 16)
        assert.ok(lightness[k] - lightness[k - 16] > 2, `${lightness[k - 16]} to ${lightness[k]} at ${k}`);
      assert.ok(lightness[255] - lightness[0] > 70, `${lightness[0]} to ${lightness[255]}`);
    });

    test(`${name}: the signed scale darkens to both ends; the ends differ, except in grey, where lines below zero are dashed`, () => {
      const seen = DIVERGING.map((hex) => lab(hex, vision));
      for (const end of [seen[0], seen[255]]) assert.ok(seen[128][0] - end[0] > 50);
      if (name !== "grey") assert.ok(difference(seen[40], seen[215]) > 25, `${difference(seen[40], seen[215])}`);
    });

    test(`${name}: up to five neighbouring curves differ in colour`, () => {
      for (let count = 2; count <= 5; count++) {
        const colours = curveStyles(count).map(({ colour }) => lab(colour, vision));
        colours.slice(1).forEach((colour, k) => {
          const by = difference(colour, colours[k]);
          assert.ok(by > 9, `curves ${k} and ${k + 1} of ${count} differ by ${by}`);
          assert.ok(colour[0] > colours[k][0] + 5, "from dark to light");
        });
      }
    });
  }

  test("neighbouring curves differ in dashes and markers, and no two of twenty in both alike", () => {
    const styles = curveStyles(20);
    const looks = styles.map(({ dash, marker }) => `${dash} ${marker}`);
    assert.is(new Set(looks).size, 20);
    styles.slice(1).forEach((style, k) => {
      assert.not.equal(style.dash, styles[k].dash);
      assert.is.not(style.marker, styles[k].marker);
    });
    assert.is(curveStyles(1)[0].colour, SEQUENTIAL[0]);
  });

  test("lines stand out from the paper: 3 to 1, and text 4.5 to 1 (WCAG 2.2)", () => {
    for (const { colour } of curveStyles(16)) assert.ok(contrast(luminance(colour), 1) >= 3, colour);
    for (const colour of [PRINT.ink, PRINT.muted, PRINT.accent])
      assert.ok(contrast(luminance(colour), 1) >= 4.5, `${colour}: ${contrast(luminance(colour), 1)}`);
  });

  test("white isolines stand out from their dark edge on every colour of a map", () => {
    for (const hex of SEQUENTIAL) {
      // The edge #10131c at 45%, over the colour.
      const edge = [1, 3, 5].map((at) => {
        const [under, over] = [hex, "#10131c"].map((colour) => Number.parseInt(colour.slice(at, at + 2), 16));
        return Math.round(0.55 * under + 0.45 * over)
          .toString(16)
          .padStart(2, "0");
      });
      assert.ok(contrast(luminance(`#${edge.join("")}`), 1) >= 3, hex);
    }
  });
});
