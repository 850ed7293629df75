// The search for the scale that reaches a KL, on functions whose answer is known.
import * as assert from "uvu/assert";
import { findScale } from "../../../landscape/measure/fixed-kl.ts";
import { describe } from "../../support.ts";

const search = { tolerance: 0.05, mostPasses: 6, start: 0.05, known: [] };
const targets = [0.01, 0.03, 0.1, 0.3];

describe("landscape/measure/fixed-kl", (test) => {
  test("bowls, bends and steep walls: within 5% in six passes", async () => {
    const curves: Readonly<Record<string, (s: number) => number>> = {
      bowl: (s) => 20 * s * s,
      "bowl that is a thousand times wider": (s) => 2e-5 * s * s,
      "bowl that is narrow": (s) => 5e4 * s * s,
      "bends over, as KL of a policy that breaks": (s) => 2 * (1 - Math.exp(-40 * s * s)),
      "steep wall": (s) => 30 * s * s * Math.exp(25 * s),
      "straight at large scales": (s) => (50 * s * s) / (1 + 10 * s),
    };
    for (const [name, curve] of Object.entries(curves)) {
      for (const target of targets) {
        let passes = 0;
        const found = await findScale({ ...search, target }, async (scale) => {
          passes++;
          return curve(scale);
        });
        assert.is(found.passes.length, passes);
        assert.ok(passes <= 6 && found.scale !== null, `${name}, ${target}: ${JSON.stringify(found)}`);
        assert.ok(Math.abs(curve(found.scale ?? 0) / target - 1) <= 0.05, `${name}, ${target}`);
        assert.is(found.kl, curve(found.scale ?? 0), "the scale is one that was tried, to the bit");
      }
    }
  });

  test("a KL that no scale reaches is a gap with the nearest one, after six passes; numbers that are not finite are above", async () => {
    const flat = await findScale({ ...search, target: 0.3 }, async (s) => 0.2 * (1 - Math.exp(-s * s * 1e4)));
    assert.is(flat.scale, null);
    assert.is(flat.passes.length, 6);
    assert.ok(Math.abs((flat.kl ?? 0) - 0.2) < 1e-6);
    const jump = await findScale({ ...search, target: 0.1 }, async (s) => (s < 0.03 ? 0.001 : 5));
    assert.is(jump.scale, null);
    assert.is(jump.kl, 5, "ln 5 is nearer to ln 0.1 than ln 0.001 is");
    const broken = await findScale({ ...search, target: 0.01 }, async (s) => (s > 0.04 ? Number.NaN : 20 * s * s));
    assert.ok(Math.abs(20 * (broken.scale ?? 0) ** 2 - 0.01) <= 5e-4);
    assert.equal(
      broken.passes[0],
      [0.05, null].map((v, k) => (k === 0 ? broken.passes[0][0] : v)),
    );
    const still = await findScale({ ...search, target: 0.01 }, async () => 0);
    assert.equal([still.scale, still.kl], [null, 0]);
  });

  test("with patience, curves that bend between bowl and wall need no middle: found where the default is not", async () => {
    // KL at the edge as around the tiny model, in ln scale and ln KL.
    const measured = [
      [0, -4.91],
      [0.446, -3.94],
      [0.57, -3.52],
      [0.75, -2.71],
      [0.802, -1.948],
      [0.961, -1.079],
      [1.069, -0.702],
      [1.854, 1.517],
    ];
    const steep = (s: number): number => {
      const x = Math.log(s);
      const k = Math.min(
        Math.max(
          1,
          measured.findIndex(([at]) => at > x),
        ),
        measured.length - 1,
      );
      const [[a, ya], [b, yb]] = [measured[k - 1], measured[k]];
      return Math.exp(ya + ((x - a) * (yb - ya)) / (b - a));
    };
    const from = { ...search, start: 1, target: 0.3 };
    assert.is((await findScale(from, async (s) => steep(s))).scale, null);
    const { scale, passes } = await findScale({ ...from, patience: 2 }, async (s) => steep(s));
    assert.ok(scale !== null && passes.length <= 5 && Math.abs(steep(scale) / 0.3 - 1) <= 0.05, JSON.stringify(passes));
  });
});
